"""Where a text carries a secret: rules of our own, each linear in the length of the text."""

import re
from collections.abc import Callable, Iterator

from watchman_mcp.cleaning.arguments import arguments, pgpass, places
from watchman_mcp.cleaning.assignments import ELLIPSIS, PLACEHOLDER, Span, assigned, looks_odd

RULES_VERSION = 1
"""Rises when a rule changes, so that a store can tell by which rules its text was cleaned."""

Rule = Callable[[str], Iterator[Span]]

_KEY_BLOCK = re.compile(
    r"""-----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----
    (?: (?:[^-]|-(?!----))*-----END[^-\n]{0,60}----- | (?:[A-Za-z0-9+/=,:.]|-(?!-)|\s|\\[nrt\\])* )
    | (?<![A-Za-z0-9+/=\\\s])[A-Za-z0-9+/=\\\s]++-----END[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----""",
    re.VERBOSE,
)


_KEY_BLOCK_KIND = "private-key"


def _key_blocks(text: str) -> Iterator[Span]:
    """Private keys in armour, also cut short at either end."""
    for found in _KEY_BLOCK.finditer(text):
        yield *found.span(), _KEY_BLOCK_KIND


_LOGIN = re.compile(r"""://([^\s/?\#:@"'<>\\\[]{0,256}+)(:|%3[Aa]|@)""")
_TOKEN = re.compile(r"(?:[^\s<>:]|:(?!//)){1,2048}")
_PORT = re.compile(r"""\d{1,5}(?![^\s/?\#"'`,;)\]}\\<>])""")
_STOPS = (re.compile(r"""[/?\#"'`,\\]"""), re.compile(r"""["'`]"""), re.compile(r"\Z"))
_HOST = re.compile(r"[\w-]+[.:]|\[|localhost", re.ASCII)


def _logins(text: str) -> Iterator[Span]:
    """Passwords before the host of a URL, however badly encoded, and lone tokens in their place."""
    for found in _LOGIN.finditer(text):
        if found[2] == "@":
            if len(found[1]) >= 20 and looks_odd(found[1]):
                yield found.start(1), found.end(1), "url-token"
            continue
        token = _TOKEN.match(text, found.end())
        if token and not _PORT.match(token[0]):
            length = _password_length(token[0])
            if length:
                yield found.end(), found.end() + length, "url-password"


def _password_length(rest: str) -> int:
    """How far a password reaches that is followed by `@host`: to the last `@` that a host can follow."""
    for number, stop in enumerate(_STOPS):
        found = stop.search(rest)
        end = found.start() if found else len(rest)
        at = rest.rfind("@", 0, end)
        unsure = number == 0 and "@" in rest[end:] and not _HOST.match(rest, at + 1)
        if at > 0 and not unsure:
            return at
    return 0


_AWS_PAIR = (
    r"(?:[^A-Za-z0-9/+]{1,12}(?:aws_)?(?:secret_access_key|secret)?[^A-Za-z0-9/+]{0,5}"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+]))?"
)
_CRYPT = r"1|2[abxy]?|5|6|7|y|gy|apr1|argon2(?:id?|d)|scrypt|sha1|md5|P|H"
_LONG_REST = r"(?=[\w-]{0,60}\d)[\w.=-]{20,}"
# A kind, what its tokens begin with, and how they go on. The beginning is looked for as plain text.
_TOKENS: tuple[tuple[str, str, str], ...] = (
    ("aws-key", "AKIA ASIA", r"[A-Z0-9]{16,}" + _AWS_PAIR),
    ("github", "gh", r"[pousr]_[A-Za-z0-9]{20,}"),
    ("github", "github_pat_", r"[A-Za-z0-9_]{20,}"),
    ("gitlab", "gl", r"(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct)-[\w.-]{16,}"),
    ("slack", "xox xapp", r"[a-z]?-[\w.-]{10,}"),
    ("slack", "hooks.slack.com/", r"(?:services|workflows|triggers)/[\w/+-]{16,}"),
    ("discord", "/webhooks/", r"\d{10,20}/[\w-]{20,}"),
    ("teams", ".office.com/webhook", r"[\w@/-]{30,}"),
    ("stripe", "sk_ rk_ pk_", r"(?:live|test|prod)_[A-Za-z0-9]{10,}"),
    ("stripe", "whsec_", r"[A-Za-z0-9+/=]{16,}"),
    ("google", "AIza 1//0", r"[\w-]{30,}"),
    ("google", "ya29. GOCSPX-", r"[\w.-]{20,}"),
    ("llm", "sk-", r"(?<![A-Za-z0-9]sk-)(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Z]|[a-f0-9]{20})[\w-]{20,}"),
    ("npm", "npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi", "pypi-A", r"[\w-]{40,}"),
    ("huggingface", "hf_ api_org_", r"[A-Za-z0-9]{30,}"),
    ("digitalocean", "do", r"[opr]_v1_[a-f0-9]{40,}"),
    ("sendgrid", "SG.", r"[\w-]{16,}\.[\w-]{16,}"),
    ("twilio", "SK", r"(?<![A-Za-z0-9]SK)[0-9a-f]{32,}"),
    ("vault", "hv", r"[sbr]\.[\w-]{20,}"),
    ("age", "AGE-", r"(?:SECRET-KEY|PLUGIN)-[A-Z0-9-]{20,}"),
    ("jwt", "eyJ", r"[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}"),
    ("bearer", "earer", r"[ ](?=[^\s]{0,60}\d)[\w.~+/=-]{16,}"),
    ("token", "dckr_ glsa_ gsk_ r8_ rubygems_ lin_api_ ntn_ sntrys_ sntryu_ figd_ ops_eyJ", _LONG_REST),
    ("token", "tskey- xai- nvapi- xkeysib- PMAK- pul- NRAK- sq0csp-", _LONG_REST),
    ("token", "ATATT3 AKCp8 EAACEd", _LONG_REST),
    ("token", "shpat_ shpca_ shppa_ shpss_ dapi", r"[0-9a-f]{20,}"),
    ("crypt", "$", rf"(?:{_CRYPT})\$[\w./$=,+-]{{18,}}"),
    ("crypt", "pbkdf2_sha", r"\d{1,3}\$[\w./$=,+-]{18,}"),
    ("crypt", "{", r"(?:SSHA|SSHA256|SSHA512|SHA|SMD5|MD5|CRYPT)\}[\w./$=+-]{16,}"),
    ("crypt", "*", r"(?<![\w*][*])[0-9A-F]{40,}"),
    ("telegram", ":AA", r"(?<=\d{8}:AA)[\w-]{30,}"),
)
_SHAPES = tuple(
    (start, re.compile(re.escape(start) + rest, re.ASCII), kind)
    for kind, starts, rest in _TOKENS
    for start in starts.split()
)
# Most texts hold no underscore, so that what needs one is not looked for one by one.
_SNAKE_SHAPES = tuple(shape for shape in _SHAPES if "_" in shape[0])
_OTHER_SHAPES = tuple(shape for shape in _SHAPES if "_" not in shape[0])


def _shapes(text: str) -> Iterator[Span]:
    """Tokens and hashes that are known by their shape alone."""
    for shapes in (_OTHER_SHAPES, _SNAKE_SHAPES if "_" in text else ()):
        for start, pattern, kind in shapes:
            if start in text:
                for found in pattern.finditer(text):
                    yield *found.span(), kind


# A rule runs only where the lowered text holds one of these; to look for them is what an innocent text costs.
_NAMES = (
    "pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "psk", "pw", "sess", "conn", "csrf",
    "xsrf", "otp", "jwt", "pin", "sig", "sid", "code", "bearer", "identified", "assertion",
)  # fmt: skip
_COMMANDS = (
    " -",
    '"-',
    "'-",
    "u0000-",
    "-password ",
    "-admin ",
    "wpa_pass",
    "rabbitmq",
    "nmcli",
    " set ",
    "/p:",
)
_PLACES = (
    "requirepass", "masterauth", "community", "bindpw", "rootpw", "login", "machine", "account", "echo ",
    "echo\t", "printf", "<<<", "jdbc",
)  # fmt: skip
_SEPARATORS = (" ", "=", ":", '"', "'", ">", "%3", "u0000", "\n", "\t")  # without one nothing is named
_SHORTEST = 6  # what carries a secret is never shorter
_PASSES = 4  # a secret that is gone can show another that it hid, as a command in the place of a value does
_LONG_WORD = 16  # no shape is shorter


def _named_rules(lowered: str) -> list[Rule]:
    """The rules for a text that may name a credential, a command or a place."""
    rules: list[Rule] = []
    for name in _NAMES:
        if name in lowered:
            rules.append(assigned)
            break
    if "://" in lowered:
        rules.append(_logins)
    if "private key" in lowered:
        rules.append(_key_blocks)
    for name in _COMMANDS:
        if name in lowered:
            rules.append(arguments)
            break
    for name in _PLACES:
        if name in lowered:
            rules.append(places)
            break
    if lowered.count(":") >= 4:
        rules.append(pgpass)
    return rules


def _rules(text: str) -> list[Rule]:
    """The rules that may find something in a text."""
    rules: list[Rule] = []
    for separator in _SEPARATORS:
        if separator in text:
            rules = _named_rules(text.lower())
            break
    if len(text) >= _LONG_WORD and max(map(len, text.split()), default=0) >= _LONG_WORD:
        rules.append(_shapes)
    return rules


def redact(text: str, mark: Callable[[str, str], str]) -> str:
    """The text with every secret replaced by what `mark` makes of its kind and its characters."""
    if len(text) < _SHORTEST:
        return text
    for _ in range(_PASSES):
        replaced = _replaced(text, mark)
        if replaced == text:
            break
        text = replaced
    return text


def _replaced(text: str, mark: Callable[[str, str], str]) -> str:
    rules = _rules(text)
    if not rules:
        return text
    pieces: list[str] = []
    position = 0
    for start, end, kind in _merged(text, sorted(span for rule in rules for span in rule(text))):
        pieces += text[position:start], mark(kind, text[start:end])
        position = end
    return "".join([*pieces, text[position:]]) if pieces else text


def _merged(text: str, spans: list[Span]) -> Iterator[Span]:
    """Overlapping spans as one, without those that an earlier cleaning or a cut has touched."""
    start, end, kind = 0, 0, ""
    for begin, stop, name in spans:
        touched = ELLIPSIS in text[begin:stop] or PLACEHOLDER.search(text, begin, stop + 1)
        if stop <= begin or (touched and name != _KEY_BLOCK_KIND):
            continue
        if begin < end:
            end = max(end, stop)
            continue
        if end > start:
            yield start, end, kind
        start, end, kind = begin, stop, name
    if end > start:
        yield start, end, kind
