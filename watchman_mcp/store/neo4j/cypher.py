"""What a stranger's Cypher may say: what Neo4j's plan does not show, and what no time limit of Neo4j ends."""

import re
from collections.abc import Iterator

from watchman_mcp.errors import InvalidRequest

LENGTH = 20_000
WORDS = 1_500
DEPTH = 12
# Neo4j looks at the clock between rows, not while it plans nor within one expression. These bounds, tried on
# 5.26, keep both short: planning takes exponential time in some words, and a `+` can double a text or list.
_MOST = {"xor": 8, "not": 40, "case": 20, "call": 20, "+": 8, "||": 8}
_ARROWS = 30
_RANGE = 1_000
_STARTS = ("MATCH", "OPTIONAL", "WITH", "UNWIND", "RETURN", "CALL")
# What is not closed goes to the end, so that it is read once.
_TOKEN = re.compile(
    r"""//[^\r\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\]|\\(?:.|\Z))*(?:'|\Z)|"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)"""
    r"""|`(?:[^`]|``)*(?:`|\Z)|[A-Za-z_$][\w$]*|\d+|\|\||=~|\S""",
    re.DOTALL,
)
_CLOSED = re.compile(r"""/\*.*\*/|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`]|``)*`""", re.DOTALL)
_NAME = r"(?:`[^`]*`|[a-z_$][\w$]*)"
_CALLED = re.compile(rf"(?<!\S)({_NAME}(?: \. {_NAME})*) \(")
_PROCEDURE = re.compile(rf"(?<![.:] )\bcall ({_NAME}(?: \. {_NAME})*) [.(]")
_GRAPH = re.compile(rf"(?:{{|\bunion(?: all| distinct)?) use {_NAME}(?! :)")
_SIZE = rf"(?:size|length) \( (?:{_NAME}|(?:nodes|relationships|labels|keys) \( {_NAME} \)) \)"
_BOUND = rf"(?:- )?(?:\d+|{_SIZE})(?: [-+] \d+)?"
_RANGES = re.compile(rf"{_BOUND} , {_BOUND}(?: , {_BOUND})? \)")
_EACH = re.compile(rf"{_NAME} in (\S+)")
_SHORT = ("labels", "keys", "nodes", "relationships")
"""What gives a list that is short by nature."""
_REFUSED = {
    "reduce": "use sum(), collect() or UNWIND",
    "allreduce": "use all() or UNWIND",
    "replace": "take the value as it is",
    "file": "it belongs to LOAD CSV",
    "linenumber": "it belongs to LOAD CSV",
}
_NAMES = """
date.truncate date.realtime date.statement date.transaction datetime.truncate datetime.realtime
datetime.statement datetime.transaction datetime.fromepoch datetime.fromepochmillis localdatetime.truncate
localdatetime.realtime localdatetime.statement localdatetime.transaction localtime.truncate localtime.realtime
localtime.statement localtime.transaction time.truncate time.realtime time.statement time.transaction
duration.between duration.inmonths duration.indays duration.inseconds point.distance point.withinbbox
vector.similarity.cosine vector.similarity.euclidean"""
FUNCTIONS = frozenset(_NAMES.split())
"""The functions of Neo4j itself whose names have dots; all others with dots come from plugins."""


def screen(query: str) -> str:
    """Give the query without a closing semicolon.

    Raises:
        InvalidRequest: it says what a question must not; the message tells what would do.
    """
    if not isinstance(query, str) or not query.strip() or len(query) > LENGTH:
        raise InvalidRequest(f"a query is one Cypher statement of at most {LENGTH} characters; shorten it")
    if re.search(r"[^\S\r\n\t ]|[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]|\\[uU]", query):
        # Neo4j undoes \u before it looks for quotes and words.
        raise InvalidRequest("write characters as they are, without \\u escapes or control characters")
    query = re.sub(r"[;\s]+\Z", "", query)
    tokens = _TOKEN.findall(query)
    _refuse_form(tokens)
    tokens = [token for token in tokens if not token.startswith(("//", "/*"))]
    words = [_word(token) for token in tokens]
    _refuse_amount(words)
    text = " ".join(words)
    _refuse_kind(text)
    _refuse_long_work(text)
    for place, word in enumerate(words):
        if word == "=~":
            _refuse_pattern(tokens[place + 1 : place + 3])
    return query


def foreign(text: str) -> str:
    """The first function with a dotted name that is not Neo4j's own, in screened or planned text."""
    text = " ".join(map(_word, _TOKEN.findall(text)))
    called = (match[1].replace(" ", "").replace("`", "") for match in _CALLED.finditer(text))
    return next((name for name in called if "." in name and name not in FUNCTIONS), "")


def _word(token: str) -> str:
    """A token in lower case; a text as '' and a quoted name without what could be taken for more words."""
    if token[0] in "'\"":
        return "''"
    if token[0] == "`":
        return "`" + re.sub(r"[^\w.]", "_", token[1:-1]).lower() + "`"
    return token.lower()


def _refuse_form(tokens: list[str]) -> None:
    for sign in tokens:
        if sign.startswith(("'", '"', "`", "/*")):
            if not _CLOSED.fullmatch(sign):
                raise InvalidRequest("a quote or comment of the query is not closed; close it")
        elif sign == ";":
            raise InvalidRequest("only one statement is run; send one at a time")
        elif not sign.isascii() and not sign.startswith("//"):
            raise InvalidRequest(f"put names with {sign[:20]!r} between backticks")


def _refuse_amount(words: list[str]) -> None:
    """Bound what Neo4j plans for long without looking at the clock."""
    if sum(word not in (",", "''") for word in words) > WORDS:
        raise InvalidRequest(f"the query has more than {WORDS} words and signs; split it")
    for word, most in _MOST.items():
        if words.count(word) > most:
            raise InvalidRequest(f"the query has {word.upper()} more than {most} times; split it")
    text = " ".join(words)
    if len(re.findall(r"- (?=[-\[])", text)) > _ARROWS:
        raise InvalidRequest(f"a query may follow {_ARROWS} relationships; use *1..5 or split it")
    depth = 0
    for word in words:
        depth += (word in "([{") - (word in ")]}")
        if depth > DEPTH:
            raise InvalidRequest(f"brackets are nested deeper than {DEPTH}; use WITH for steps")


def _refuse_kind(text: str) -> None:
    """Refuse what is no question to this graph; a plan does not show what is nested in an expression."""
    first = text.split(" ")[0].upper()
    if first not in _STARTS:
        raise InvalidRequest(f"a question begins with {', '.join(_STARTS)} {{ or (, not {first[:20]}")
    if re.search(r"\bload csv\b", text):
        raise InvalidRequest("LOAD CSV would read files or addresses; ask the graph alone")
    if found := _PROCEDURE.search(text):
        raise InvalidRequest(
            f"procedures such as {found[1].replace(' ', '')[:60]} are not called; use MATCH and functions"
        )
    if _GRAPH.search(text):
        raise InvalidRequest("USE would ask another database; leave it out")
    if name := foreign(text):
        raise InvalidRequest(f"only functions of Neo4j itself may be called, not {name[:60]}; leave it out")


def _refuse_long_work(text: str) -> None:
    """Refuse what Neo4j does within one expression and for long or with much memory."""
    for found in _CALLED.finditer(text):
        name, rest = found[1].strip("`"), text[found.end() + 1 :]
        if name in _REFUSED:
            raise InvalidRequest(f"{name}() is not run here; {_REFUSED[name]}")
        if name == "range":
            bounds = _RANGES.match(rest)
            if not bounds or any(int(number) > _RANGE for number in re.findall(r"\d+", bounds[0])):
                raise InvalidRequest(f"range() takes numbers up to {_RANGE}, or size() or length() of a name")
    open_: list[bool] = []
    for is_each, short in _brackets(text):
        if is_each is None:
            open_ = open_[:-1]
            continue
        if is_each and not short and any(open_):
            raise InvalidRequest("a list is gone through within another; use UNWIND for one of them")
        open_.append(is_each)


def _brackets(text: str) -> Iterator[tuple[bool | None, bool]]:
    """For each bracket: whether it goes through a list, None where it closes; and whether that is short."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if word in ")]}":
            yield None, False
        elif word in "([{":
            each = _EACH.match(" ".join(words[place + 1 : place + 4]))
            every = word == "[" or (place and words[place - 1] in ("any", "all", "none", "single"))
            yield bool(each and every), bool(each and each[1] in _SHORT)


def _refuse_pattern(after: list[str]) -> None:
    """Refuse a regular expression that can take exponential time: nothing ends it on the server."""
    pattern = after[0] if after else ""
    if pattern[:1] not in ("'", '"') or after[1:] in (["+"], ["||"], ["["], ["."]):
        raise InvalidRequest("=~ takes one text in quotes; use CONTAINS, STARTS WITH or ENDS WITH")
    pattern = re.sub(r"\\([\\'\"])", r"\1", pattern[1:-1])  # Neo4j keeps what it does not know, such as \\d
    plain = re.sub(r"\\.|\[[^\]]*\]", "x", re.sub(r"\A\(\?[imsu]+\)", "", pattern))
    plain = re.sub(r"(?<=[*+?}])[?+]", "", plain)
    quantifiers = len(re.findall(r"[*+?{]", plain))
    if re.search(r"\)[*+?{]|\(\?", plain) or r"\Q" in after[0] or quantifiers > 2 or plain.count("|") > 8:
        raise InvalidRequest(
            "=~ takes at most two of * + ? {} and eight |, and none of them after a bracket; "
            "use toLower(name) CONTAINS 'text', joined by AND and OR"
        )
