"""Where a text gives a value to the name of a credential: `KEY=value`, `"key": "value"`, `--key value`."""

import re
import sys
from collections.abc import Iterator

from watchman_mcp.cleaning.credentials import COOKIE, HEADER, LIKELY, MAYBE, SURE, Name, known_name

Span = tuple[int, int, str]
"""Where a secret begins, where it ends and which kind it is."""

ELLIPSIS = "\u2026[+"  # what a text that was cut ends with; nothing beside it is judged a second time
PLACEHOLDER = re.compile(r"\[redacted:[a-z0-9-]{1,24}:[0-9a-f]{8}\]")
LONGEST_JUDGED = 512  # a longer value is taken for a secret unseen, so that judging stays linear


# A quote of either kind, also as shells and JSON write it within another: \" or '"'"'.
QUOTE = r"""(?:'\\{0,8}"'\\{0,8}"'|\\{0,8}+["'])"""
_ASSIGNED = re.compile(
    rf"""(?<![\w.-])(?<!\[redacted:)
    (-{{0,2}}\w[\w.-]*+) (?:{QUOTE}|`)?\]?  # the name, perhaps quoted
    [ \t]{{0,4}} (?:=>|:=|={{1,2}}|:(?!:|//)|%3[Dd]|>|\((?=\\{{0,8}}["'])) [ \t]{{0,4}}""",
    re.VERBOSE | re.ASCII,
)
_OPTION = re.compile(
    r"""-(?<![\w.-]-) (-?[A-Za-z][\w.-]*+)
    (?:\\{0,8}+["'],[ \t]?(?=\\{0,8}["'])|[ \t]{1,8}|\\u0000) (?![-|&;<>\s])""",
    re.VERBOSE | re.ASCII,
)
_NAMED = re.compile(  # name: DB_PASSWORD, value: x
    r"""\b(?:name|key)(?:\\{0,8}+["'])?[ \t]{0,4}[:=][ \t]{0,4}(?:\\{0,8}+["'])?([\w.-]{2,64})
    (?:\\{0,8}+["'])?(?:,|\\{1,8}+n|\s){1,40}
    (?:\\{0,8}+["'])?value(?:\\{0,8}+["'])?[ \t]{0,4}[:=][ \t]{0,4}""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
_DEFINED = re.compile(rf"define\([ ]?{QUOTE}([\w.-]{{2,64}}){QUOTE},[ ]{{0,4}}", re.ASCII)
_TAGGED = re.compile(r"""name=\\{0,8}["']([\w.-]{2,64})\\{0,8}["']>""", re.ASCII)
_SPOKEN = re.compile(  # password 'x', identified by 'x'
    r"[PpIi](?<![\w.-].)((?i:assword(?:[ ]for[ ]\S{1,80}[ ]?=)?|assphrase|dentified[ ]by(?:[ ]password)?))"
    r"[ \t]{1,8}(?=\\{0,8}[\"'])"
)

_QUOTED = re.compile(r""" "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | '[^'\n]*+' | `[^`\n]*+` """, re.VERBOSE)
_ESCAPED = re.compile(r"""(\\{1,8}+)(["'])(?:[^\\\n]|(?!\1\2)\\++["']?)*\1\2""")
# A quote after a closing quote continues the word as a shell reads it, unless it closes what is around.
_ESCAPED_QUOTE = r"""\\{1,8}+"'\\{1,8}+"(?=')"""  # how a quote within single quotes is written, in JSON
_CONTINUED = re.compile(rf"""[\w$./+=@%-]|'(?=[^\s,;:)}}\]'])|"(?=[^\s,;:)}}\]"])|{_ESCAPED_QUOTE}""")
_NEXT_KEY = r"""(?=[\s"'\\]{0,4}[\w.-]{1,64}\\{0,8}["']?[ \t]{0,4}[=:])"""
_WORD = re.compile(
    rf"""(?: [^\s"'`\\,;&<]++
    | \\++(?!["'`]|[nrt](?:["'\s\[\#\\]|[\w.-]{{1,64}}[ ]?[=:]|$)|u0000)[^\n]?
    | [,;&](?!{_NEXT_KEY[3:-1]}) | <(?!/) )*""",
    re.VERBOSE | re.ASCII,
)
_PIECE = re.compile(
    rf""" "(?=[^\s,;:)}}\]])(?:[^"\\\n]|\\.)*" | '(?=[^\s,;:)}}\]])[^'\n]*+' | {_ESCAPED_QUOTE} """,
    re.VERBOSE,
)
_OPENING = re.compile(r"""\\{1,8}+["']|["'`]""")
_LINE = re.compile(r"[^\n]*+")
_QUERY = re.compile(r"""[^\s&"'<>#\\`]*+""")


def value_span(text: str, start: int, stop: int = sys.maxsize) -> tuple[int, int]:
    """Where the value that begins here lies: inside its quotes, or as the word a shell would read."""
    opening = _OPENING.match(text, start, stop)
    if not opening:
        return start, _word_end(text, start, stop)
    length = len(opening[0])
    quoted = (_ESCAPED if length > 1 else _QUOTED).match(text, start, stop)
    if not quoted:
        line = _LINE.match(text, start, stop)  # never closed: nobody knows where it ends
        return opening.end(), line.end() if line else opening.end()
    if length == 1 and _CONTINUED.match(text, quoted.end(), stop):
        return start, _word_end(text, quoted.end(), stop)
    return opening.end(), quoted.end() - length


def _word_end(text: str, start: int, stop: int = sys.maxsize) -> int:
    position = start
    while True:
        word = _WORD.match(text, position, stop)
        position = word.end() if word else position
        piece = _PIECE.match(text, position, stop)
        if not piece:
            break
        position = piece.end()
    while position > start and text[position - 1] in ",;:)}]>|&":
        position -= 1
    return position


_ORDINARY = re.compile(
    r"""(?:true|false|yes|no|on|off|none|null|nil|undefined|unset|disabled?|enabled?|required?|optional|prompt|ask
    |stdin|n/a|any|all|amd64|arm64|armhf|armel|i386|riscv64|ppc64el|s390x|files|compat|systemd|sss|changed|redacted
    |\$[A-Z_][A-Z0-9_]*|\$\{\w+\}?|\$\([^\n]*|%\w*|%\([^)\n]*\)\w?|\{\{[^\n]*|\{\}|\[\]|<[\w ./-]*>?
    |\W*|x{3,}|\.{3,})[.,;:]?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_PATH = re.compile(
    r"""(?:file:/{1,3}|~?/|\.{1,2}/)?(?:(?:etc|run|var|usr|home|root|opt|srv|mnt|media|tmp|dev|proc|sys|boot|bin|sbin|lib
    |data|secrets?|certs?|config|app|keys?|private|nix|snap|vault|tls|ssl|ssh|\.ssh)/[\w./@+%~-]+
    |[\w./@+%~${}-]{0,200}\.(?:pem|key|crt|cer|p12|pfx|json|ya?ml|toml|ini|conf|cfg|env|txt|gpg|asc|pub|jks|sock|service|py|c|h))
    |/root|/tmp|/home|/""",
    re.VERBOSE | re.ASCII,
)
_PACKAGE = re.compile(r"-{0,2}[a-z0-9][a-z0-9.+-]*")
_VERSION = re.compile(r"(?:\d{1,3}:)?\d+(?:\.\d+)+(?:[+~.-][A-Za-z0-9.+~-]*)?")
_ODD = re.compile(r"(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[\w+/=.~%:-]{8,}")
_MIXED = re.compile(r"(?=[^\s]*[a-z])(?=[^\s]*[A-Z])[\w+/=.~%:-]{12,}")
_PROSE = re.compile(
    r"(?i)(?:incorrect|invalid|expired|missing|not|is|was|are|too|must|cannot|can't|could|failed|failure|wrong|empty"
    r"|unknown|unexpected|mismatch|authentication|accepted|rejected|denied|check|for|of|and|or|the|has|have|will)\b"
)
_SENTENCE = re.compile(r"[ ](?![\w.-]{1,64}[ ]?[=:])(?=[A-Za-z(])")


def looks_odd(value: str) -> bool:
    """Whether a value looks made by a generator rather than written by a person."""
    return bool(_ODD.fullmatch(value) or _MIXED.fullmatch(value)) and not _VERSION.fullmatch(value)


def _is_secret(name: Name, key: str, value: str, colon: bool, more: bool) -> bool:
    """Whether what a credential's name was given is the credential, and not a path, a switch or prose."""
    if len(value) > LONGEST_JUDGED:
        return True
    value = value.strip("\"'`\\")
    if not value or _ORDINARY.fullmatch(value) or _PATH.fullmatch(value):
        return False
    if _VERSION.fullmatch(value) and _PACKAGE.fullmatch(key):
        return False
    if name.level == MAYBE:
        return looks_odd(value)
    if name.level == LIKELY:
        return looks_odd(value) if colon else not (value.isdigit() and len(value) < 4)
    return not (colon and (_PROSE.match(value) or (more and value.isalpha())))


_BEFORE_KEY = re.compile(r"[ \t]*(?:-[ \t]+|export[ \t]+)?")
_SCHEME = re.compile(
    r"(?i)(?:basic|bearer|digest|token|negotiate|ntlm|apikey|api-key|aws4-hmac-sha256|hawk|oauth|splunk|sso-key|key)"
    r"(?:[ ]+|%20|\+)"
)
_PAIRS = re.compile(
    r"""(?:[\w.-]+=(?:\\{0,8}"[^"\\\n]*+\\{0,8}"|[^\s,"'\\]*+)(?:,[ \t]?)?[ \t]?)+""", re.ASCII
)
_COOKIES = re.compile(
    r"""(?:[\w!\#$%*+.^|~-]++(?:=(?:"[^"\n\\]*+"|[^;\s"'\\]*+))?(?:;[ \t]?|(?=[\s"'\\]|$)))+""", re.ASCII
)


def _header_span(text: str, start: int) -> tuple[int, int, bool]:
    """Where the credential of an Authorization header lies, and whether a scheme vouches for it."""
    while text[start : start + 1] in ("\\", '"', "'"):
        start += 1
    scheme = _SCHEME.match(text, start)
    start = scheme.end() if scheme else start
    pairs = _PAIRS.match(text, start)
    if pairs and "=" in pairs[0].rstrip("= "):
        return start, start + len(pairs[0].rstrip(" ,")), True
    return start, _word_end(text, start), bool(scheme)


def _line_start(text: str, start: int) -> bool:
    """Whether nothing but an indent stands before a key on its line."""
    earliest = max(0, start - 40)
    newline = text.rfind("\n", earliest, start)
    if newline < 0 and earliest:
        return False
    return bool(_BEFORE_KEY.fullmatch(text, newline + 1 if newline >= 0 else 0, start))


_ELEMENT = re.compile(r"""(?:[\[,(]|[^:=\s\\"'])[ ]{0,3}(\\{0,8}["'])\Z""")
_PHRASE = re.compile(r"""(?:[^"\\\n]|\\(?!n|["']))*""")


def _whole(text: str, found: re.Match[str], end: int) -> int:
    """Where a value with spaces ends that a quote before its name encloses, or that is a phrase."""
    if found[1].lower().endswith("phrase"):
        phrase = _PHRASE.match(text, found.end())
        return phrase.end() if phrase else end
    opening = _ELEMENT.search(text[max(0, found.start() - 12) : found.start()])
    if not opening:
        return end
    close = text.find(opening[1], found.end(), found.end() + LONGEST_JUDGED)
    after = text[close + len(opening[1]) : close + len(opening[1]) + 1]
    return close if close >= 0 and after in ("", ",", "]", ")", " ") and "\n" not in text[end:close] else end


_BLOCK = re.compile(
    r"[|>][+-]?[ \t]*(?:\n|\\{1,8}n)[ \t]*"
)  # the value stands on the next line, as YAML has it


def _judge(text: str, found: re.Match[str], name: Name) -> tuple[int, int]:
    """Where the secret behind a credential's name lies; an empty span where there is none."""
    block = _BLOCK.match(text, found.end())
    start = block.end() if block else found.end()
    separator = text[found.end(1) : found.end()]
    before = text[found.start() - 1 : found.start()]
    if name.level == HEADER:
        begin, end, vouched = _header_span(text, start)
        return begin, end if vouched or _is_secret(
            Name("", MAYBE), "", text[begin:end], True, False
        ) else begin
    if name.level == COOKIE:
        begin = start + 1 if text[start : start + 1] in ("'", '"') else start
        cookies = _COOKIES.match(text, begin)
        return begin, cookies.end() if cookies and "=" in cookies[0] else begin
    if ">" in separator and "=" not in separator:
        end = text.find("<", start, start + LONGEST_JUDGED)
        return start, start if before != "<" and found.re is not _TAGGED else end if end >= 0 else _word_end(
            text, start
        )
    if ":" in separator and text[start : start + 1] in ("{", "["):
        return start, start
    return _value(text, found, name, start, before in ("?", "&"))


def _value(text: str, found: re.Match[str], name: Name, start: int, query: bool) -> tuple[int, int]:
    """Where the secret among the values that need judging lies."""
    separator = text[found.end(1) : found.end()]
    begin, end = value_span(text, start)
    quoted = begin > start
    if not quoted:
        end = max(end, _whole(text, found, end))
    ended = _QUERY.match(text, start) if query and not quoted else None
    end = ended.end() if ended else end
    colon = ":" in separator and "=" not in separator and not quoted
    spaced = separator.endswith((" ", "\t")) and not quoted and text[found.start()] != "-"
    line = (
        _LINE.match(text, start)
        if spaced and name.level == SURE and _line_start(text, found.start())
        else None
    )
    more = not line and bool(_SENTENCE.match(text, end))
    if not _is_secret(name, found[1], text[begin:end], colon, more):
        return begin, begin
    return begin, line.end() if line else end


_WAYS = (
    ("", _ASSIGNED),
    ("value", _NAMED),
    ("define(", _DEFINED),
    ("name=", _TAGGED),
    ("-", _OPTION),
    (" ", _SPOKEN),
)


def assigned(text: str) -> Iterator[Span]:
    """Yield every value that a credential's name was given, in order for each way of writing it."""
    lowered = text.lower()
    for needed, pattern in _WAYS:
        if needed not in lowered:
            continue
        seen = 0
        for found in pattern.finditer(text):
            if found.start() < seen:
                continue
            before = text[max(0, found.start() - 12) : found.start()]
            name = Name("password", SURE) if pattern is _SPOKEN else known_name(found[1], before)
            if name is None:
                continue
            begin, end = _judge(text, found, name)
            if end > begin:
                seen = end
                yield begin, end, name.kind
