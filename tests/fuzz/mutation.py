"""Damages valid samples: bytes, words, lines and JSON values are changed, each time in the same way."""

import json
import random
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

LONGEST = 2_000
"""Bytes that an input has, near enough: more only makes a round slower."""
RUN = 400
"""So many times at most is a piece repeated."""
ODD = (
    b"", b"\0", b"\n", b"\r\n", b"\n\n", b"\t", b" ", b"'", b'"', b"\\", b"/", b"../", b":", b": ", b"::",
    b"=", b"==>", b"|", b"\\|", b"<", b">", b"(", b")", b"[", b"]", b"{", b"}", b",", b";", b"#", b"%", b"~",
    b"^", b"*", b"@", b"+", b"-", b"_", b".", b"..", b"$HOME", b"0", b"-1", b"1e999", b"NaN", b"null",
    b"9" * 20, b"9" * 5_000, b"1." * 300, b"[" * 3_000, b'{"a":' * 1_500, b"\\" * 900, b"a-" * 300,
    b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc2\xa0", b"\x0b", b"\x1c",
    "٣".encode(), "²".encode(), "İ".encode(), "ß".encode(), b"\xef\xbb\xbf",
    b"0001-01-01 00:00:00", b"9999-12-31 23:59:59", b"2026-02-30 10:00:00", b"2026-03-29 02:30:00",
    b"9999-12-31T23:59:59-2359", b"0001-01-01T00:00:00+2359", b"2026-01-02T10:00:00Z", b"<none>",
    b"\\u{110000}", b"\\ud800", b"\\x", b"%3C", b"`",
)  # fmt: skip
"""What readers have stumbled over elsewhere."""
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1 << 36,
    1 << 63,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "a",
    "../x",
    "a/b",
    "1.0",
    "٣",
    "x" * 999,
    [],
    {},
    [None],
    [[]],
    {"": ""},
    {"a": {"a": None}},
    ["a", 1, None],
)
_WORD = re.compile(rb"[A-Za-z0-9_.+~-]+|\s+|[^A-Za-z0-9\s]")


class Mutator:
    """Makes inputs for one reader out of its samples."""

    def __init__(self, name: str, samples: Sequence[bytes], kind: str) -> None:
        self.chance = random.Random(name)
        self.samples = samples
        self.kind = kind
        words = dict.fromkeys(word for sample in samples for word in _WORD.findall(sample[:20_000]))
        self.words = [*list(words)[:800], *ODD]
        self.trees = list(_trees(samples)) if kind == "json" else []

    def next(self) -> bytes:
        """One more input."""
        chance = self.chance
        if self.trees and chance.random() < 0.7:
            return self._of_tree()
        if chance.random() < 0.03:
            return self._noise()
        content = bytearray(self._piece(chance.choice(self.samples)))
        for _ in range(chance.choice((1, 1, 2, 3, 5))):
            chance.choice(_CHANGES)(self, content)
        return bytes(content[: 4 * LONGEST])

    def _piece(self, sample: bytes) -> bytes:
        """A sample, or some neighbouring lines of a long one."""
        if len(sample) <= LONGEST or self.kind == "binary":
            return sample
        start = sample.find(b"\n", self.chance.randrange(len(sample) - LONGEST)) + 1
        return sample[start : start + LONGEST]

    def _noise(self) -> bytes:
        chance = self.chance
        if chance.random() < 0.5:
            return chance.randbytes(chance.randrange(200))
        return b"".join(chance.choices(self.words, k=chance.randrange(30)))[:LONGEST]

    def _span(self, content: bytearray) -> tuple[int, int]:
        start = self.chance.randrange(len(content) + 1)
        return start, start + self.chance.choice((0, 1, 1, 2, 4, 8, 30, 120))

    def _set(self, content: bytearray) -> None:
        if content:
            place = self.chance.randrange(len(content))
            content[place] = self.chance.choice((0, 1, 10, 32, 127, 128, 255, self.chance.randrange(256)))

    def _flip(self, content: bytearray) -> None:
        if content:
            content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)

    def _cut(self, content: bytearray) -> None:
        start, end = self._span(content)
        del content[start:end]

    def _end(self, content: bytearray) -> None:
        del content[self.chance.randrange(len(content) + 1) :]

    def _put(self, content: bytearray) -> None:
        start, end = self._span(content)
        content[start : end if self.chance.random() < 0.5 else start] = self.chance.choice(self.words)

    def _reword(self, content: bytearray) -> None:
        """One word becomes another."""
        found = list(_WORD.finditer(content))
        if found:
            match = self.chance.choice(found)
            content[match.start() : match.end()] = self.chance.choice(self.words)

    def _again(self, content: bytearray) -> None:
        start, end = self._span(content)
        content[start:start] = content[start:end] * self.chance.choice((1, 2, 9, RUN))

    def _join(self, content: bytearray) -> None:
        other = self._piece(self.chance.choice(self.samples))
        start, end = self._span(content)
        content[start:end] = other[self.chance.randrange(len(other) + 1) :]

    def _lines(self, content: bytearray) -> None:
        """Lines are left out, doubled or moved."""
        lines = bytes(content).split(b"\n")
        chance = self.chance
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(3):
            case 0:
                del lines[one]
            case 1:
                lines.insert(other, lines[one])
            case _:
                lines[one], lines[other] = lines[other], lines[one]
        content[:] = b"\n".join(lines)

    def _of_tree(self) -> bytes:
        chance = self.chance
        text = chance.choice(self.trees)
        root = [json.loads(text)]
        for _ in range(chance.choice((1, 1, 2, 4))):
            self._replant(root)
        content = json.dumps(root[0], ensure_ascii=chance.random() < 0.8)
        return content.encode("utf-8", "surrogatepass")

    def _replant(self, root: list[Any]) -> None:
        """Change one value somewhere below."""
        chance, holder, place = self.chance, cast("Any", root), cast("Any", 0)
        while isinstance(holder[place], dict | list) and holder[place] and chance.random() < 0.85:
            holder = holder[place]
            place = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        action = chance.randrange(5)
        if action == 0 and holder is not root:
            del holder[place]
        elif action == 1 and isinstance(holder, dict):
            name = chance.choice(("", "a", "../x", "a b", "\ud800", "name", f"{place}\0"))
            holder[name] = deepcopy(holder[place])
        elif action == 2 and isinstance(holder, list):
            holder.insert(place, deepcopy(holder[place]))
        elif action == 3 and isinstance(holder[place], str):
            word = chance.choice(self.words).decode("utf-8", "replace")
            cut = chance.randrange(len(holder[place]) + 1)
            holder[place] = holder[place][:cut] + word + holder[place][cut + chance.randrange(4) :]
        else:
            holder[place] = deepcopy(chance.choice(VALUES))


_CHANGES = (
    Mutator._set, Mutator._flip, Mutator._cut, Mutator._end, Mutator._put, Mutator._put, Mutator._reword,
    Mutator._reword, Mutator._again, Mutator._join, Mutator._lines,
)  # fmt: skip


def _trees(samples: Sequence[bytes]) -> list[str]:
    """The samples that are JSON; each input begins with a fresh copy."""
    found = []
    for sample in samples:
        try:
            text = sample.decode("utf-8", "surrogateescape")
            if isinstance(json.loads(text), dict | list):
                found.append(text)
        except (ValueError, RecursionError):
            continue
    return found


def grown(name: str, samples: Sequence[bytes], number: int, size: int) -> bytes:
    """A sample, or a small piece of one, again and again up to a size."""
    chance = random.Random(f"{name} {number}")
    sample = chance.choice(samples) or b"\0"
    if number == 0:
        return (sample * (size // len(sample) + 1))[:size]
    start, odd = chance.randrange(len(sample)), chance.choice(ODD)[:8]
    piece = sample[start : start + chance.choice((1, 2, 3, 5, 8, 20, 60))] + chance.choice((b"", odd))
    piece = piece or b"\0"
    return (sample[:start][-2_000:] + piece * (size // len(piece)))[:size] + sample[start:][:2_000]
