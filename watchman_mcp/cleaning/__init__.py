"""Makes a stranger's text safe to keep and to show: escaped, without secrets, bounded."""

import copy
import hmac
import logging
import math
import re
import secrets
import unicodedata
from datetime import datetime

from watchman_mcp.cleaning.assignments import ELLIPSIS, PLACEHOLDER
from watchman_mcp.cleaning.redaction import RULES_VERSION, redact
from watchman_mcp.errors import Broken

__all__ = ["LIST_LIMIT", "RULES_VERSION", "TEXT_LIMIT", "Cleaner", "LogFilter"]

TEXT_LIMIT = 4000
LIST_LIMIT = 1000
_LOG_LIMIT = 16_000
_LARGEST = 2**63 - 1
_PLAIN = frozenset({type(None), bool, datetime})
_REMEMBERED = 16_384  # strings in each of the two generations of what is known to be innocent
_REMEMBERED_LENGTH = 256
_REMEMBERED_LONG = 64  # longer ones, such as a command line of which hundreds of records tell
_READ_AHEAD = 16  # how many times its limit of a text is looked at before the rest is counted only
_READ_AHEAD_LEAST = 65_536

_KEPT_FORMAT = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)]))
)


def _escape(character: str) -> str:
    """What a character is shown as: itself, or an escape where it cannot be seen or would mislead."""
    code = ord(character)
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if short:
        return short
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    if (hidden and character not in _KEPT_FORMAT) or character in _INVISIBLE:
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return character


class _Escapes(dict[int, str]):
    """A table for `str.translate` that fills itself, up to a bound, with the characters that are met."""

    def __missing__(self, code: int) -> str:
        shown = _escape(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = shown
        return shown


_SHOWN = _Escapes({ord("\n"): "\n", ord("\t"): "\t"})
_ONE_LINE = str.maketrans({"\n": "\\n", "\t": "\\t"})
_QUOTES = "\"'`\\"
_LONGEST_WORD = 4096
_ESCAPED = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_LONGEST_MARK = 48


class Cleaner:
    """Escapes, redacts and bounds; equal secrets under one key look equal and say nothing else."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._long: dict[str, str] = {}

    def text(self, value: str, *, limit: int = TEXT_LIMIT, multiline: bool = False) -> str:
        """A text that can be kept and shown: visible characters, no secret, at most `limit` long."""
        known = self._young.get(value)
        if known is None:
            known = self._cleaned(value, limit, multiline)
        return known if len(known) <= limit else _cut(known, limit, 0)

    def fingerprint(self, secret: str) -> str:
        """Eight hexadecimal digits that are equal for equal secrets and useless without the key."""
        return hmac.digest(self._key, secret.encode("utf-8", "surrogatepass"), "sha256").hex()[:8]

    def row(self, label_name: str, values: dict[str, object]) -> dict[str, object]:
        """The properties of one node, each made safe to keep.

        Raises: Broken, naming label and field, for a value that is no property.
        """
        cleaned: dict[str, object] = {}
        for field, value in values.items():
            if type(value) is str:
                cleaned[field] = self._young.get(value) or self.text(value)
            elif type(value) in _PLAIN:
                cleaned[field] = value
            elif isinstance(value, list | tuple):
                cleaned[field] = self._list(f"{label_name}.{field}", value)
            else:
                cleaned[field] = self._scalar(f"{label_name}.{field}", value)
        return cleaned

    def _scalar(self, place: str, value: object) -> object:
        if value is None or isinstance(value, bool | datetime):
            return value
        if isinstance(value, str):
            return self.text(str(value))
        if isinstance(value, int):
            return min(max(int(value), -_LARGEST - 1), _LARGEST)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        raise Broken(
            f"{place} is of type {type(value).__name__}, which cannot be kept; the collector must give text, "
            "a number, a truth value, a time or a list of one of these."
        )

    def _list(self, place: str, values: list[object] | tuple[object, ...]) -> list[object]:
        """A list of scalars, where a long one of texts ends by telling how many are left out."""
        long = len(values) > LIST_LIMIT
        kept = [self._scalar(place, value) for value in values[: LIST_LIMIT - 1 if long else LIST_LIMIT]]
        if long:
            missing = len(values) - len(kept)
            kept.append(
                f"{ELLIPSIS}{missing}]" if isinstance(kept[0], str) else self._scalar(place, values[-1])
            )
        return kept

    def _cleaned(self, value: str, limit: int, multiline: bool) -> str:
        long = len(value) > _REMEMBERED_LENGTH
        known = (self._long if long else self._old).get(value)
        if known is None:
            unread = 0
            examined = max(_READ_AHEAD_LEAST, limit * _READ_AHEAD)
            text = value
            if len(text) > examined:
                text = _whole_words(text[:examined])
                unread = len(value) - len(text)
            known = self._safe(text, multiline)
            if unread or len(known) > limit:
                return _cut(known, limit, unread)
            if known != value or "\n" in value or "\t" in value:
                return known  # a secret is never remembered, nor what only several lines may hold
        if long:
            if len(self._long) >= _REMEMBERED_LONG:
                self._long = {}
            self._long[value] = known
            return known
        if len(self._young) >= _REMEMBERED:
            self._old, self._young = self._young, {}
        self._young[value] = known
        return known

    def _safe(self, text: str, multiline: bool) -> str:
        if not (text.isascii() and text.isprintable()):
            text = text.translate(_SHOWN)
        text = redact(text, self._mark)
        if not multiline and ("\n" in text or "\t" in text):
            # Once more, because on one line a name and a value may have come together.
            text = redact(text.translate(_ONE_LINE), self._mark)
        return text

    def _mark(self, kind: str, secret: str) -> str:
        return f"[redacted:{kind}:{self.fingerprint(secret.strip(_QUOTES))}]"


def _whole_words(text: str) -> str:
    """A text without its last word, because half a secret may look like none."""
    tail = text[-_LONGEST_WORD:]
    kept = max(tail.rfind(" "), tail.rfind("\n"), tail.rfind("\t"), 0)
    return text[: len(text) - len(tail) + kept]


def _cut(text: str, limit: int, unread: int) -> str:
    """The beginning of a text and how much is missing, never with half an escape or half a mark."""
    room = max(0, limit - len(f"{ELLIPSIS}{len(text) + unread}]"))
    head = text[:room]
    for opening, whole in (("[", PLACEHOLDER), ("\\", _ESCAPED)):
        begin = head.rfind(opening, max(0, len(head) - _LONGEST_MARK))
        mark = whole.match(text, begin) if begin >= 0 else None
        if mark and mark.end() > len(head):
            head = head[:begin]
    return f"{head}{ELLIPSIS}{len(text) - len(head) + unread}]"


class LogFilter(logging.Formatter):
    """Wraps a handler's formatter so that all it writes, tracebacks included, has been cleaned.

    It is a formatter and no `logging.Filter`, because only a formatter sees the final text.
    """

    def __init__(self, inner: logging.Formatter | None = None, cleaner: Cleaner | None = None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._cleaner = cleaner or Cleaner(secrets.token_bytes(32))

    def format(self, record: logging.LogRecord) -> str:
        """One record as text; a message whose arguments do not fit is written too, cleaned."""
        record = copy.copy(record)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # logging would print both uncleaned to stderr
            message = f"{record.msg!r} with arguments that do not fit: {record.args!r}"
        # On one line, so that a stranger's text cannot begin a line of the log.
        record.msg, record.args = self._cleaner.text(message), None
        return self._cleaner.text(self._inner.format(record), limit=_LOG_LIMIT, multiline=True)
