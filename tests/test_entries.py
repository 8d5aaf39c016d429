import json
import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchman_mcp import entries

PATH = ("mcpServers", "watchman")
VALUE = {"command": "/opt/wätch/uvx", "args": ["watchman-mcp", '--name="x"']}

spaces = st.text(" \t\n\r", max_size=3)
keys = st.text(max_size=6) | st.sampled_from(["mcpServers", "servers", "watchman", "é\\u", "\ud800"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
servers = st.dictionaries(keys.filter(lambda key: key != "watchman"), values, max_size=4)


@st.composite
def documents(draw):
    """A JSON object as bytes, with white space, escapes and byte order mark as anybody might write them."""

    def quoted(text):
        lone = any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
        return json.dumps(text, ensure_ascii=lone or draw(st.booleans()))

    def written(value):
        gap = draw(spaces)
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, dict):
            inner = ",".join(
                f"{draw(spaces)}{quoted(key)}{draw(spaces)}:{draw(spaces)}{written(item)}{draw(spaces)}"
                for key, item in value.items()
            )
            return "{" + (inner or gap) + "}"
        if isinstance(value, list):
            return "[" + (",".join(gap + written(item) for item in value) or gap) + "]"
        return json.dumps(value)

    tree = draw(st.dictionaries(keys.filter(lambda key: key != "mcpServers"), values, max_size=4))
    if draw(st.booleans()):
        tree["mcpServers"] = draw(servers)
    tree = dict(draw(st.permutations(list(tree.items()))))
    if draw(st.booleans()):
        text = json.dumps(tree, indent=draw(st.sampled_from([None, 0, 2, 4, "\t"])))
    else:
        text = draw(spaces) + written(tree) + draw(spaces)
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def read(raw):
    return json.loads(raw.decode("utf-8-sig"))


@given(documents())
def test_putting_an_entry_adds_it_and_keeps_every_other_member_in_its_order(raw):
    before = read(raw)

    after = read(entries.put(raw, "json", PATH, VALUE))

    assert after["mcpServers"].pop("watchman") == VALUE
    if "mcpServers" not in before and not after["mcpServers"]:
        del after["mcpServers"]
    assert json.dumps(after) == json.dumps(before)


@given(documents())
def test_taking_the_entry_out_again_gives_back_the_same_members(raw):
    before = read(raw)
    keep = 1 if "mcpServers" in before else 0

    again = entries.take(entries.put(raw, "json", PATH, VALUE), "json", PATH, keep)

    assert json.dumps(read(again)) == json.dumps(before)
    if before.get("mcpServers") or ("mcpServers" not in before and before):
        assert again == raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "does not hold an object"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1, // note\n "b": 2}', "Expecting property name"),
        (b'{"a": 1,}', "Expecting property name|trailing comma"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' is there twice"),
        (b'{"a": "\xff"}', "can't decode"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (b'{"mcpServers": []}', "'mcpServers' is not an object"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_file_that_is_not_strict_json_is_refused_with_the_reason(raw, why):
    with pytest.raises(ValueError, match=why):
        entries.put(raw, "json", PATH, VALUE)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{}\n", b'{\n  "mcpServers": {\n    "watchman": {\n      "a": "1"\n    }\n  }\n}\n'),
        (b'{"b":1}', b'{"b":1,"mcpServers":{"watchman":{"a":"1"}}}'),
        (b'{ "b": 1 }', b'{ "b": 1, "mcpServers": {"watchman": {"a": "1"}} }'),
        (
            b'{\r\n\t"mcpServers": {}\r\n}',
            b'{\r\n\t"mcpServers": {\r\n\t\t"watchman": {\r\n\t\t\t"a": "1"\r\n\t\t}\r\n\t}\r\n}',
        ),
        (
            b'{\n    "mcpServers": {\n        "x": {}\n    },\n    "z": 1.50\n}',
            b'{\n    "mcpServers": {\n        "x": {},\n        "watchman": {\n            "a": "1"\n'
            b'        }\n    },\n    "z": 1.50\n}',
        ),
    ],
)
def test_the_entry_takes_on_the_layout_of_the_file(raw, expected):
    assert entries.put(raw, "json", PATH, {"a": "1"}) == expected


TABLE = ("mcp_servers", "watchman")
words = st.text(string.ascii_letters + " \té\"'#[]=", max_size=12)


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), words, max_size=4),
    st.lists(words, max_size=3),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_toml_table_goes_to_the_end_and_comes_out_again(plain, comments, newline, final):
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    lines += ["# " + comment.strip("\n") for comment in comments] + ["[mcp_servers.other]", 'command = "x"']
    raw = (newline.join(lines) + (newline if final else "")).encode()

    after = entries.put(raw, "toml", TABLE, VALUE)

    assert after.startswith(raw)
    assert tomllib.loads(after.decode())["mcp_servers"]["watchman"] == VALUE
    assert entries.take(after, "toml", TABLE, 1) == raw + (b"" if final else newline.encode())


def test_taking_out_a_toml_table_keeps_the_comments_and_tables_around_it():
    head = b'# mine\nmodel = "m"\n\n'
    tail = b'\n# about the next\n[mcp_servers.other]\ncommand = "x"\n'
    ours = b'[mcp_servers.watchman]\ncommand = "w"\nargs = []\nstartup_timeout_sec = 20\n'

    assert entries.take(head + ours + tail, "toml", TABLE, 1) == head.removesuffix(b"\n") + tail


@pytest.mark.parametrize("raw", [b'mcp_servers = {x = {command = "y"}}\n', b"a = \n", b"a = '''open"])
def test_a_toml_file_that_cannot_take_a_table_at_its_end_is_refused(raw):
    with pytest.raises(ValueError):
        entries.put(raw, "toml", TABLE, VALUE)


def test_a_toml_entry_inside_an_inline_table_is_not_cut_out():
    raw = b'mcp_servers = {watchman = {command = "w"}}\n'

    with pytest.raises(ValueError, match="without touching the rest"):
        entries.take(raw, "toml", TABLE, 1)
