import json
import os
import stat
import subprocess
import sys
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchman_mcp.clients import CLIENTS, launch_command, setup
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.homes import HomeFile, LeftAlone

COMMAND = ["/opt/tools/uvx", "watchman-mcp"]
JSON_CLIENTS = [name for name in CLIENTS if name != "codex"]
OTHER = {"command": "npx", "args": ["-y", "other"], "env": {"TOKEN": "s3cret"}}

# A client's program: reads its file leniently, changes it, and lays all of it out anew.
PROGRAM = """#!{python}
import json, os, re, sys
path, key, words = {path!r}, {key!r}, sys.argv[1:]
os.makedirs(os.path.dirname(path), exist_ok=True)
text = open(path).read() if os.path.exists(path) else "{{}}"
if os.environ.get("FAIL"):
    sys.exit(3)
if path.endswith(".toml"):
    if "remove" in words:
        text = text[: text.index("[mcp_servers.watchman]")]
    else:
        command = words[words.index("--") + 1 :]
        table = '[mcp_servers.watchman]\\ncommand = "%s"\\nargs = ["%s"]\\n' % tuple(command)
        text = text.removeprefix("{{}}").replace("  ", " ") + table
else:
    tree = json.loads(re.sub("//.*", "", text))
    if "remove" in words:
        del tree[key]["watchman"]
    else:
        given = json.loads(words[1]) if words[0] == "--add-mcp" else {{}}
        command = [given["command"], *given["args"]] if given else words[-2:]
        tree.setdefault(key, {{}})["watchman"] = {{"command": command[0], "args": command[1:], "env": {{}}}}
    text = ("// kept\\n" if "//" in text else "") + json.dumps(tree, indent=3)
open(path, "w").write(text)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for variable in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return place


def everything(home):
    """Every path under the home with its mode and content."""
    return {
        str(path.relative_to(home)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(home.rglob("*"))
    }


def write(client, home, raw):
    path = CLIENTS[client].file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    path.chmod(0o640)
    return path


def servers(client, home):
    path, key = CLIENTS[client].file(home), CLIENTS[client].keys[0]
    text = path.read_bytes().decode("utf-8-sig")
    tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text.removeprefix("// kept"))
    return tree.get(key, {})


def with_others(client, **layout):
    return json.dumps(
        {"theme": "dark", CLIENTS[client].keys[0]: {"other": OTHER}, "z": [1.50]}, **layout
    ).encode()


def json_texts(client):
    key = CLIENTS[client].keys[0]
    spread = with_others(client, indent=2)
    return {
        "empty object": b"{}",
        "empty object on two lines": b"{\n}\n",
        "white space around": b" \n\t{ \n } \n\n",
        "empty servers": f'{{\n  "{key}": {{}}\n}}\n'.encode(),
        "other servers": spread + b"\n",
        "no final newline": spread,
        "tabs": with_others(client, indent="\t"),
        "no indentation": with_others(client, indent=0),
        "crlf": spread.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + spread,
        "unicode escapes": b'{"\\u00e9\\/": "\\ud83d\\ude00", "n": 1e400, "i": 12345678901234567890}',
        "deep nesting": b'{"a": ' + b'{"b": [' * 150 + b"]}" * 150 + b"}",
        "one line": with_others(client),
        "one tight line": with_others(client, separators=(",", ":")),
    }


TOML_TEXTS = {
    "empty": b"",
    "settings": b'model = "m"  # mine\n',
    "other servers": b'[mcp_servers.other]\ncommand = "npx"\nargs = []\n\n[mcp_servers.other.env]\nA = "1"\n',
    "no final newline": b'[tui]\ntheme = "x"',
    "crlf": b'[tui]\r\ntheme = "x"\r\n',
    "comment last": b"a = 1\n# the end",
    "long strings": b"a = '''\n[mcp_servers.watchman]\n'''\n",
    "byte order mark": b'\xef\xbb\xbfmodel = "m"\n',
}
CASES = [(client, case, raw) for client in JSON_CLIENTS for case, raw in json_texts(client).items()]
CASES += [("codex", case, raw) for case, raw in TOML_TEXTS.items()]


@pytest.mark.parametrize(
    ("client", "raw"), [pytest.param(c, raw, id=f"{c}-{case}") for c, case, raw in CASES]
)
def test_setup_adds_only_the_entry_and_remove_gives_back_every_byte(client, raw, home):
    path = write(client, home, raw)
    before, others = everything(home), servers(client, home)

    added = setup(client, home=home, command=COMMAND)

    assert (added.changed, added.path, added.entry) == (True, str(path), "")
    now = servers(client, home)
    assert now.pop("watchman")["command"] == COMMAND[0]
    assert now == others
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    backup = path.with_name(path.name + ".watchman-backup")
    assert backup.read_bytes() == raw and stat.S_IMODE(backup.stat().st_mode) == 0o640

    assert setup(client, home=home, command=COMMAND, remove=True).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_an_absent_file_and_its_directories_come_and_go(client, home):
    added = setup(client, home=home, command=COMMAND)

    assert added.changed
    entry = {key: value for key, value in servers(client, home)["watchman"].items() if key != "type"}
    assert entry == {"command": COMMAND[0], "args": COMMAND[1:]}
    assert setup(client, home=home, command=COMMAND, remove=True).changed
    assert everything(home) == {}


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_has_its_own_file_under_the_home(client, platform, home):
    path = CLIENTS[client].file(home, platform)

    assert path.is_relative_to(home) and path.suffix in (".json", ".toml")


BAD = {
    "comments": b'{\n  // mine\n  "a": 1\n}\n',
    "trailing comma": b'{"a": 1,}',
    "duplicate keys": b'{"a": 1, "a": 2}',
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no text": b"",
    "a list": b"[]",
}
BAD_TOML = {"not toml": b"a = \n", "invalid UTF-8": b'a = "\xff"\n', "inline table": b"mcp_servers = {}\n"}
BAD_CASES = [(client, raw) for client in JSON_CLIENTS for raw in BAD.values()]
BAD_CASES += [("codex", raw) for raw in BAD_TOML.values()]


@pytest.mark.parametrize(("client", "raw"), BAD_CASES)
def test_a_file_that_is_not_strict_is_not_touched_and_the_entry_is_shown(client, raw, home):
    path = write(client, home, raw)
    before = everything(home)

    outcome = setup(client, home=home, command=COMMAND)

    assert not outcome.changed and str(path) in outcome.says and outcome.path == str(path)
    shown = tomllib.loads(outcome.entry) if client == "codex" else json.loads(outcome.entry)
    assert shown[CLIENTS[client].keys[0]]["watchman"]["args"] == COMMAND[1:]
    assert everything(home) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_files_that_may_not_be_replaced_are_not_touched(client, home, tmp_path):
    raw = b"" if client == "codex" else b"{}"
    outside = tmp_path / "outside"
    outside.write_bytes(raw)
    path = write(client, home, raw)

    def refused(because):
        before = everything(tmp_path)
        outcome = setup(client, home=home, command=COMMAND)
        assert not outcome.changed and because in outcome.says and "watchman" in outcome.entry
        assert everything(tmp_path) == before

    path.chmod(0o440)
    refused("read-only")
    path.unlink()
    path.symlink_to(outside)
    refused("leads out of")
    path.unlink()
    path.symlink_to(home / "nowhere")
    refused("which is not there")
    path.unlink()
    path.symlink_to(path)
    refused("it was left as it is")
    path.unlink()
    os.mkfifo(path)
    refused("not a plain file")
    path.unlink()
    path.write_bytes(raw)
    os.link(path, home / "twin")
    refused("not a plain file")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_link_inside_the_home_stays_a_link(client, home):
    path = CLIENTS[client].file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "real").write_bytes(b"" if client == "codex" else b"{}")
    path.symlink_to(home / "dotfiles" / "real")
    before = everything(home)

    assert setup(client, home=home, command=COMMAND).changed
    assert path.is_symlink() and "watchman" in servers(client, home)
    assert setup(client, home=home, command=COMMAND, remove=True).changed
    assert everything(home) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("mine", [".", ".cursor", ".cursor/mcp.json"])
def test_root_leaves_what_belongs_to_another_person_alone(mine, home):
    write("cursor", home, b"{}")
    os.chown(home / mine, 12345, 12345)
    before = everything(home)

    outcome = setup("cursor", home=home, command=COMMAND)

    assert not outcome.changed and "belongs to user id 12345 and you are root" in outcome.says
    assert everything(home) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_a_second_setup_changes_nothing_and_says_so(client, home):
    setup(client, home=home, command=COMMAND)
    before = everything(home)

    again = setup(client, home=home, command=COMMAND)

    assert not again.changed and "already" in again.says and again.entry == ""
    assert everything(home) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_remove_without_an_entry_changes_nothing_and_says_so(client, home):
    write(client, home, b"" if client == "codex" else b"{}")
    before = everything(home)

    outcome = setup(client, home=home, command=COMMAND, remove=True)

    assert not outcome.changed and "has no entry called watchman" in outcome.says
    assert everything(home) == before


@pytest.mark.parametrize("client", JSON_CLIENTS)
def test_somebody_elses_entry_is_replaced_only_on_request_and_comes_back(client, home):
    theirs = json.dumps({CLIENTS[client].keys[0]: {"watchman": OTHER, "x": {}}}, indent=1).encode()
    write(client, home, theirs)
    before = everything(home)

    for remove in (False, True):
        refused = setup(client, home=home, command=COMMAND, remove=remove)
        assert not refused.changed and "--replace" in refused.says
        assert everything(home) == before

    assert setup(client, home=home, command=COMMAND, replace=True).changed
    assert servers(client, home)["watchman"]["command"] == COMMAND[0]
    assert setup(client, home=home, command=COMMAND, remove=True).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", JSON_CLIENTS)
def test_renewing_our_own_entry_keeps_the_file_from_before_the_first_setup(client, home):
    write(client, home, with_others(client, indent=2))
    before = everything(home)
    setup(client, home=home, command=COMMAND)

    assert not setup(client, home=home, command=["/new/watchman-mcp"]).changed
    assert setup(client, home=home, command=["/new/watchman-mcp"], replace=True).changed
    assert servers(client, home)["watchman"]["command"] == "/new/watchman-mcp"
    assert setup(client, home=home, command=["/new/watchman-mcp"], remove=True).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", JSON_CLIENTS)
def test_remove_keeps_what_was_changed_since_setup(client, home):
    key = CLIENTS[client].keys[0]
    path = write(client, home, b'{\n  "a": 1\n}\n')
    setup(client, home=home, command=COMMAND)
    tree = json.loads(path.read_bytes())
    tree[key]["watchman"]["env"] = {"A": "b"}
    tree[key]["later"], tree["b"] = OTHER, 2
    path.write_text(json.dumps(tree, indent=4))

    assert setup(client, home=home, command=COMMAND, remove=True).changed

    expected = json.dumps({"a": 1, key: {"later": OTHER}, "b": 2}, indent=4)
    assert path.read_text() == expected
    assert [found.name for found in path.parent.iterdir() if "watchman" in found.name] == []


def test_remove_keeps_what_was_changed_in_a_file_that_setup_made(home):
    path = CLIENTS["cursor"].file(home)
    setup("cursor", home=home, command=COMMAND)
    tree = json.loads(path.read_bytes())
    path.write_text(json.dumps({**tree, "b": 2}))

    assert setup("cursor", home=home, command=COMMAND, remove=True).changed
    assert path.read_text() == '{"b": 2}'


def test_remove_keeps_what_was_changed_in_a_toml_file(home):
    path = write("codex", home, b'model = "m"\n')
    setup("codex", home=home, command=COMMAND)
    path.write_bytes(b"# top\n" + path.read_bytes() + b'startup_timeout_sec = 9\n\n[tui]\ntheme = "x"\n')

    assert setup("codex", home=home, command=COMMAND, remove=True).changed
    assert path.read_bytes() == b'# top\nmodel = "m"\n\n[tui]\ntheme = "x"\n'


def test_an_entry_that_was_made_by_hand_is_taken_out_too(home):
    path = write(
        "cursor", home, b'{"mcpServers": {"watchman": {"command": "uvx", "args": ["watchman-mcp"]}}}'
    )

    assert setup("cursor", home=home, command=COMMAND, remove=True).changed
    assert path.read_bytes() == b'{"mcpServers": {}}'


def run(argv):
    return subprocess.run(argv, check=False, timeout=20).returncode


@pytest.fixture
def program(home, tmp_path, monkeypatch):
    """Puts a client's own program on PATH; a bare PATH otherwise, so that no real client is started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(client):
        known = CLIENTS[client]
        text = PROGRAM.format(python=sys.executable, path=str(known.file(home)), key=known.keys[0])
        (folder / known.program).write_text(text)
        (folder / known.program).chmod(0o755)

    return install


NATIVE = [name for name, client in CLIENTS.items() if client.program]


@pytest.mark.parametrize("client", NATIVE)
@pytest.mark.parametrize("absent", [False, True])
def test_the_clients_own_program_adds_and_removes_and_every_byte_comes_back(client, absent, home, program):
    program(client)
    if not absent:
        write(client, home, b'a  =  "b"\n' if client == "codex" else with_others(client))
    before = everything(home)

    assert setup(client, home=home, command=COMMAND, run=run).changed
    entry = servers(client, home)["watchman"]
    assert (entry["command"], entry["args"]) == (COMMAND[0], COMMAND[1:])
    if client != "codex":
        assert b'\n   "' in CLIENTS[client].file(home).read_bytes()  # the layout of the program
    assert not setup(client, home=home, command=COMMAND, run=run).changed
    assert setup(client, home=home, command=COMMAND, remove=True, run=run).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", ["claude-code", "vscode", "gemini"])
def test_a_file_with_comments_is_left_to_the_clients_own_program(client, home, program):
    program(client)
    write(client, home, b'{\n  // mine\n  "a": 1\n}\n')
    before = everything(home)

    assert setup(client, home=home, command=COMMAND, run=run).changed
    assert "watchman" in servers(client, home)
    assert "already" in setup(client, home=home, command=COMMAND, run=run).says
    assert setup(client, home=home, command=COMMAND, remove=True, run=run).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", ["claude-code", "gemini"])
def test_a_file_with_comments_that_was_changed_since_is_left_to_the_clients_own_program(
    client, home, program
):
    program(client)
    path = write(client, home, b'{\n  // mine\n  "a": 1\n}\n')
    setup(client, home=home, command=COMMAND, run=run)
    path.write_bytes(path.read_bytes().replace(b'"a": 1', b'"a": 2'))

    assert not setup(client, home=home, command=COMMAND, remove=True).changed
    assert setup(client, home=home, command=COMMAND, remove=True, run=run).changed
    text = path.read_text()
    assert text.startswith("// kept") and '"a": 2' in text and "watchman" not in text


@pytest.mark.parametrize("client", ["claude-code", "gemini"])
def test_a_file_that_the_clients_program_laid_out_anew_comes_back_after_changes_that_were_undone(
    client, home, program
):
    program(client)
    path = write(client, home, with_others(client))
    before = everything(home)
    setup(client, home=home, command=COMMAND, run=run)
    path.write_bytes(path.read_bytes() + b"\n")

    assert setup(client, home=home, command=COMMAND, remove=True, run=run).changed
    assert everything(home) == before


@pytest.mark.parametrize("client", ["claude-code", "vscode", "gemini"])
def test_an_unreadable_file_that_names_watchman_is_not_given_to_the_clients_program(client, home, program):
    program(client)
    write(client, home, b'{\n  // watchman\n  "a": 1\n}\n')
    before = everything(home)

    assert not setup(client, home=home, command=COMMAND, run=run).changed
    assert not setup(client, home=home, command=COMMAND, remove=True, run=run).changed
    assert everything(home) == before


def test_a_program_that_adds_the_entry_elsewhere_is_reported(home, program, tmp_path):
    program("claude-code")
    (tmp_path / "bin" / "claude").write_text("#!/bin/sh\nexit 0\n")

    outcome = setup("claude-code", home=home, command=COMMAND, run=run)

    assert "but not to" in outcome.says and everything(home) == {}


def test_an_entry_that_its_program_fails_to_remove_is_cut_out(home, program, monkeypatch):
    program("gemini")
    path = write("gemini", home, b'{"a": 1}')
    setup("gemini", home=home, command=COMMAND, run=run)
    path.write_bytes(path.read_bytes().replace(b'"a": 1', b'"a": 2'))
    monkeypatch.setenv("FAIL", "1")

    assert setup("gemini", home=home, command=COMMAND, remove=True, run=run).changed
    assert json.loads(path.read_bytes()) == {"a": 2}


def test_a_file_written_by_another_program_meanwhile_is_not_replaced(home):
    path = write("cursor", home, b'{"late": 1}')

    with pytest.raises(LeftAlone, match="run this again"):
        HomeFile(path, home).write(b"{}", expected=b"{}")

    assert path.read_bytes() == b'{"late": 1}'


def test_a_place_that_cannot_be_written_is_reported(home):
    (home / ".cursor").write_text("a file where the directory should be")

    outcome = setup("cursor", home=home, command=COMMAND)

    assert not outcome.changed and "cannot be changed" in outcome.says and "watchman" in outcome.entry


@pytest.mark.parametrize("client", NATIVE)
def test_a_program_that_fails_is_reported_and_leaves_nothing_behind(client, home, program, monkeypatch):
    program(client)
    write(client, home, b"" if client == "codex" else b"{}")
    monkeypatch.setenv("FAIL", "1")
    before = everything(home)

    outcome = setup(client, home=home, command=COMMAND, run=run)

    assert not outcome.changed and "exit status 3" in outcome.says and "watchman" in outcome.entry
    assert everything(home) == before


def test_the_clients_own_program_is_not_used_for_another_home(home, program, tmp_path):
    program("claude-code")
    other = tmp_path / "other"
    other.mkdir()

    assert setup("claude-code", home=other, command=COMMAND, run=run).changed
    assert "watchman" in servers("claude-code", other) and everything(home) == {}


@pytest.mark.parametrize(
    ("client", "variable", "name"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("gemini", "GEMINI_CLI_HOME", ".gemini/settings.json"),
    ],
)
def test_a_variable_that_moves_the_file_is_followed_inside_the_home_only(
    client, variable, name, home, monkeypatch, tmp_path
):
    monkeypatch.setenv(variable, str(home / "moved"))
    assert setup(client, home=home, command=COMMAND).path == str(home / "moved" / name)
    assert (home / "moved" / name).exists()

    monkeypatch.setenv(variable, str(tmp_path / "away"))
    refused = setup(client, home=home, command=COMMAND)
    assert not refused.changed and "leads out of" in refused.says and not (tmp_path / "away").exists()


def test_an_unknown_client_is_answered_with_the_names(home):
    with pytest.raises(InvalidRequest, match="claude-desktop, claude-code, vscode, cursor, gemini, codex"):
        setup("emacs", home=home, command=COMMAND)


def test_a_command_that_no_file_can_hold_is_refused(home):
    with pytest.raises(InvalidRequest, match="cannot hold"):
        setup("cursor", home=home, command=["/opt/\udcff/uvx"])
    assert everything(home) == {}


def test_the_command_is_the_running_program_or_uvx_where_uvx_made_its_environment(tmp_path, monkeypatch):
    for name in ("watchman-mcp", "uvx"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "watchman-mcp"), "setup"])
    assert launch_command() == [str(tmp_path / "watchman-mcp")]

    monkeypatch.setattr(sys, "prefix", "/home/me/.cache/uv/archive-v0/abc")
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    assert launch_command() == [str(tmp_path / "uvx"), "watchman-mcp"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    client=st.sampled_from(JSON_CLIENTS),
    tree=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
        ),
        max_size=5,
    ),
    others=st.none() | st.dictionaries(st.text(max_size=5), st.just(OTHER), max_size=3),
    indent=st.sampled_from([None, 0, 1, 2, 4, "\t"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    ends=st.sampled_from(["", "\n", " \t\n"]),
    ascii_only=st.booleans(),
)
def test_setup_then_remove_is_identity(client, tree, others, indent, newline, ends, ascii_only, home):
    tree = tree if others is None else {**tree, CLIENTS[client].keys[0]: others}
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only).replace("\n", newline) + ends
    path = write(client, home, text.encode())
    before = everything(home)

    assert setup(client, home=home, command=COMMAND).changed
    after = json.loads(path.read_bytes())
    assert after[CLIENTS[client].keys[0]].pop("watchman")["args"] == COMMAND[1:]
    assert {**after, **tree} == after
    assert setup(client, home=home, command=COMMAND, remove=True).changed
    assert everything(home) == before
