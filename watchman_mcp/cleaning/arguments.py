"""Where a command line or a configuration file carries a secret that no name announces."""

import re
from collections.abc import Iterator
from itertools import chain

from watchman_mcp.cleaning.assignments import PLACEHOLDER, QUOTE, Span, value_span

_GAP = r"""(?:[ \t]{1,4}|\\u0000|["'],[ \t]?(?=["']))"""  # between arguments, also of a list
_NEXT = r"""(?:[ ]{1,4}|["'],[ ]?["'])"""  # the same, with the quote that opens the next one
_ONE = r"""[^\s"']{1,200}"""
# What a command's name begins with and how it goes on, a pattern that ends where its secret begins, and what
# divides a user from a password.
_COMMANDS: tuple[tuple[str, str, str, str], ...] = (
    ("mysql mariadb", r"(?:-?[a-z]{2,9})?", r"-p(?![\s\"'\\])|-p(?=\\?[\"'][^\s,\]])", ""),
    ("sshpass mongo cypher-shell cqlsh useradd usermod influx", r"[a-z]{0,8}", rf"-p{_GAP}?", ""),
    ("login", "", rf"-p{_GAP}", ""),
    ("7z rar unrar", r"[arz]?", r"-p", ""),
    ("zip unzip sqlcmd bcp tsql mosquitto_ ipmitool", r"(?:pub|sub|rr)?", rf"-P{_GAP}?", ""),
    ("ldap", r"[a-z]{3,9}", rf"-w{_GAP}?", ""),
    ("redis-cli valkey-cli", "", rf"-a{_GAP}?", ""),
    ("snmp", r"[a-z]{2,9}", rf"-[cAX]{_GAP}?", ""),
    ("curl wget lftp etcdctl", r"2?", rf"(?:-[a-zA-Z]{{0,8}}[uU]|--user|--proxy-user)(?:{_GAP}|=)?", ":,"),
    ("http xh", r"s?", rf"(?:-a|--auth)(?:{_GAP}|=)", ":"),
    ("smbclient rpcclient net smbget", "", rf"(?:-U|--user)(?:{_GAP}|=)?", "%"),
    ("openssl", "", rf"-(?:pass|passin|passout)(?:{_GAP}|=)pass:|-k{_GAP}", ""),
    ("keytool jarsigner java", "", rf"-(?:storepass|keypass){_GAP}", ""),
    ("xfreerdp wlfreerdp", r"3?", r"/p:", ""),
    ("htpasswd", "", rf"-[A-Za-z]{{0,6}}b[A-Za-z]{{0,6}}(?:{_NEXT}{_ONE}){{2}}{_NEXT}", ""),
    ("set-initial-password", "", rf"(?<=initial-password){_NEXT}", ""),
    ("wpa_passphrase", "", rf"(?<=wpa_passphrase){_NEXT}{_ONE}{_NEXT}", ""),
    ("rabbitmqctl", "", rf"(?:add_user|change_password){_NEXT}{_ONE}{_NEXT}", ""),
    ("nmcli", "", rf"(?:password|[\w.-]{{0,40}}psk){_NEXT}", ""),
    (
        "aws npm pip git",
        "",
        rf"\bset{_NEXT}[^\s\"']{{0,80}}(?:secret|[tT]oken|password)\w{{0,20}}{_NEXT}",
        "",
    ),
    ("kubectl oc", "", r"--from-literal(?:=|[ ]{1,4})[\"']?[\w.-]{1,80}=", ""),
)
_LONGEST = 512  # no secret of these kinds is longer
_DASHED = r"(?:(?<=[\s\"',])|(?<=u0000))"
_NAMES = tuple(
    (
        name,
        re.compile(rf"(?<![\w-]){name}{rest}(?![\w:])", re.ASCII),
        re.compile(f"{_DASHED}(?:{option})" if option.startswith(("-", "(?:-")) else option),
        dividers,
    )
    for names, rest, option, dividers in _COMMANDS
    for name in names.split()
)
_SEGMENT = re.compile(r"(?:[^ \n]++|[ ](?!(?:\||&&|;)[ ]))*")
_LONGEST_CALL = 2000


def arguments(text: str) -> Iterator[Span]:
    """Yield what a known command takes as a secret in an option or a place of its own."""
    for name, command, option, dividers in _NAMES:
        at = text.find(name)
        while at >= 0:
            called = command.match(text, at)
            end = at + len(name)
            if called:
                segment = _SEGMENT.match(text, end, end + _LONGEST_CALL)
                end = segment.end() if segment else end
                yield from _options(text, option, called.end(), end, dividers)
            at = text.find(name, end)


def _options(text: str, option: re.Pattern[str], start: int, stop: int, dividers: str) -> Iterator[Span]:
    """The secrets in the arguments of one call."""
    for found in option.finditer(text, start, stop):
        if found.start() < start:
            continue
        begin, end = value_span(text, found.end(), found.end() + _LONGEST)
        start = end
        if not PLACEHOLDER.match(text, begin):
            begin = _after_user(text, begin, end, dividers)
            if begin < end and text[begin] not in "-/$":
                yield begin, end, "password"


def _after_user(text: str, begin: int, end: int, dividers: str) -> int:
    """Where the password begins in `user:password`; the end where there is none."""
    if not dividers:
        return begin
    places = [at for at in (text.find(divider, begin, end) for divider in dividers) if at >= 0]
    return min(places) + 1 if places else end


_DIRECTIVE = re.compile(
    r"""(?:(?:^|(?<=[\s"'])|(?<=\\n))(?:requirepass|masterauth|rocommunity6?|rwcommunity6?|bindpw|rootpw)
    |(?:login|machine|account)(?:\s|\\n){1,8}\S{1,200}?(?:\s|\\n){1,8}password)(?:[ \t\n]|\\n){1,8}""",
    re.VERBOSE,
)
_PGPASS = re.compile(
    r"""(?<![\w.:$/*-])(?![0-9a-fA-F]{1,4}:)[\w.*-]{1,100}+:(?:\d{4,5}|\*)
    :[A-Za-z*][\w.-]{0,63}:[A-Za-z*][\w.-]{0,63}:(?=\S{4})""",
    re.VERBOSE | re.ASCII,
)
_PORT_FIELD = re.compile(r":(?:\d{4,5}|\*):[A-Za-z*]")
_ORACLE = re.compile(r"jdbc:oracle:\w{1,8}:[\w$#]{1,60}/(?=[^\s@]{1,200}@)")
_ECHO = re.compile(
    rf"(?<![\w-])(?:echo|printf)[ \t]{{1,4}}(?:-\w{{1,4}}[ \t]{{1,4}}|{QUOTE}?%s(?:\\{{1,8}}n)?{QUOTE}?[ ])?"
)
_HERE = re.compile(r"(?:sudo|passwd)[^\n|<]{0,80}<<<[ ]?")
_FED = re.compile(
    r"""[\s"'\\]{0,4}\|[ ]?[^|\n]{0,80}?(?:sudo[^|\n]{0,60}?[ ]-\w{0,6}S|chpasswd|passwd|--password-stdin
    |--passphrase-fd|cryptsetup|smbpasswd)""",
    re.VERBOSE,
)


def places(text: str) -> Iterator[Span]:
    """Yield what is secret by where it stands: directives, netrc, what is piped into sudo."""
    for found in chain(_DIRECTIVE.finditer(text), _ORACLE.finditer(text), _HERE.finditer(text)):
        begin, end = value_span(text, found.end(), found.end() + _LONGEST)
        yield begin, text.find("@", begin, end) if found[0].startswith("jdbc") else end, "password"
    for found in _ECHO.finditer(text):
        begin, end = value_span(text, found.end(), found.end() + _LONGEST)
        if _FED.match(text, end):
            yield begin, end, "password"


def pgpass(text: str) -> Iterator[Span]:
    """Yield the last field of what looks like a line of `.pgpass`: host, port, database, user, password."""
    if _PORT_FIELD.search(text):
        for found in _PGPASS.finditer(text):
            yield *value_span(text, found.end(), found.end() + _LONGEST), "password"
