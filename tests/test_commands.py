"""The command line: what a person types, in a home of its own, with a daemon that comes on demand."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.homes import PROGRAM, Debian, Home
from watchman_mcp import __version__
from watchman_mcp.commands import arguments_from
from watchman_mcp.errors import InvalidRequest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose Watchman looks at a small Debian machine; its daemon ends with the module."""
    place = tmp_path_factory.mktemp("commands")
    debian = Debian(place / "root")
    debian.install("nginx", "1.22.1-9")
    one = Home(place / "home", debian.settings)
    yield one
    one.finish()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Home]:
    """A home in which nothing runs yet."""
    one = Home(tmp_path / "home", Debian(tmp_path / "root").settings)
    yield one
    one.finish()


def on_terminal(home: Home, *words: str) -> str:
    """What a command shows on a terminal, without colours."""
    ours, theirs = pty.openpty()
    argv = home.words((*PROGRAM, *words), {"TERM": "xterm-256color", "COLUMNS": "120"})
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # the last process that had the terminal ended
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


# Arguments


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ([], {}),
        (["--name", "nginx"], {"name": "nginx"}),
        (["--name=nginx"], {"name": "nginx"}),
        (["--query", "SELECT 1 = 1"], {"query": "SELECT 1 = 1"}),
        (["--query=SELECT a=b"], {"query": "SELECT a=b"}),
        (["--net"], {"net": True}),
        (["--net", "--since", "7d"], {"net": True, "since": "7d"}),
        (["--limit", "-5"], {"limit": "-5"}),
        (["--name="], {"name": ""}),
        (["--name", ""], {"name": ""}),
    ],
)
def test_words_become_a_tool_s_arguments(words: list[str], arguments: dict[str, object]) -> None:
    assert arguments_from(words) == arguments


@pytest.mark.parametrize("words", [["nginx"], ["--name", "a", "b"], ["-n", "a"], ["--"], [""]])
def test_a_word_without_a_name_is_refused_with_the_way_to_write_it(words: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="belongs to no argument; write --name value"):
        arguments_from(words)


# Calls


def test_a_call_prints_json_in_a_pipe(home: Home) -> None:
    done = home.run("call", "query_packages", "--name", "nginx")

    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["found"], answer["host"]) == ("yes", "fixture")
    assert answer["items"][0]["version"] == "1.22.1-9"


def test_a_call_shows_a_table_on_a_terminal(home: Home) -> None:
    shown = on_terminal(home, "call", "query_packages", "--view", "installed")

    assert shown.startswith("query_packages: yes, as of ")
    assert re.search(r"^name +version +manager", shown, re.MULTILINE)
    assert re.search(r"^nginx +1\.22\.1-9 +apt", shown, re.MULTILINE)
    assert (
        json.loads(on_terminal(home, "call", "query_packages", "--name", "nginx", "--json"))["found"] == "yes"
    )


def test_history_is_shown_by_transaction_on_a_terminal(home: Home) -> None:
    shown = on_terminal(home, "call", "query_packages", "--since", "1d")

    assert re.search(r"install +nginx 1\.22\.1-9", shown)


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("overview", "overview: yes"),
        ("what_changed", "package_install"),
        ("query_graph", "Software"),
        ("doctor", "apt"),
    ],
)
def test_every_kind_of_answer_can_be_shown_on_a_terminal(home: Home, tool: str, line: str) -> None:
    assert line in on_terminal(home, "call", tool)


def test_a_call_without_a_tool_lists_them(home: Home) -> None:
    done = home.run("call")

    assert done.stdout.splitlines()[0].startswith("overview: How is this machine?")
    assert len(done.stdout.splitlines()) >= 7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("call", "query_packages", "--colour", "red"),
            "unknown argument 'colour'; query_packages takes: name",
        ),
        (("call", "query_packages", "red"), "'red' belongs to no argument; write --name value"),
        (
            ("call", "list_packages"),
            "there is no tool 'list_packages'; the tools are: overview, query_packages",
        ),
        (("call", "query_packages", "--since", "lately"), "'lately' is not a time; accepted: "),
        (("doctor", "moon"), "area 'moon' is not known; areas: apk, apt"),
        (("scan", "moon"), "area 'moon' is not known; areas: apk, apt"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_code(
    home: Home, words: tuple[str, ...], says: str
) -> None:
    done = home.run(*words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("watchman-mcp: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


# The other commands


def test_the_version_is_told_however_it_is_asked_for(home: Home) -> None:
    assert home.run("--version").stdout == home.run("-V").stdout == f"watchman-mcp {__version__}\n"


def test_help_names_every_command(home: Home) -> None:
    done = home.run("--help")

    assert done.returncode == 0
    for command in ("serve", "stop", "status", "scan", "doctor", "call", "demo", "setup"):
        assert re.search(rf"^ +{command} ", done.stdout, re.MULTILINE), command


def test_a_command_that_is_none_is_refused_with_those_that_are(home: Home) -> None:
    done = home.run("frobnicate")

    assert done.returncode == 2
    assert "invalid choice: 'frobnicate'" in done.stderr
    assert home.run("status", "--loud").returncode == 2


def test_the_status_is_the_machine_on_one_screen(home: Home) -> None:
    shown = on_terminal(home, "status")

    assert "fixture  Debian GNU/Linux 12" in shown
    assert "CPU" in shown
    assert "Changes, last 24 hours" in shown
    assert re.search(r"package_install +nginx", shown)
    assert "packages: 3 apt" in shown


def test_the_doctor_tells_each_collector_and_the_daemon(home: Home) -> None:
    answer = json.loads(home.run("doctor").stdout)

    assert {"apt", "host", "python", "resources"} <= {check["area"] for check in answer["items"]}
    assert answer["daemon"]["mode"] == "on-demand"
    assert answer["storage"]["directory"] == str(home.state)
    assert [check["area"] for check in json.loads(home.run("doctor", "apt").stdout)["items"]] == ["apt"]


def test_a_scan_looks_at_each_area_and_tells_what_it_found(home: Home) -> None:
    done = home.run("scan", "apt")

    assert done.returncode == 0
    assert re.search(r"apt: ok, \d+ rows in \d+ ms", done.stderr)


def test_without_a_command_on_a_terminal_it_explains_itself(home: Home) -> None:
    shown = on_terminal(home)

    assert "speaks JSON-RPC on stdin and stdout" in shown
    assert "watchman-mcp setup claude-desktop" in shown


def test_setup_without_a_client_lists_them(home: Home) -> None:
    assert "claude-desktop" in home.run("setup").stdout


def test_a_daemon_comes_on_demand_and_stop_ends_it(bare: Home) -> None:
    assert bare.run("stop").stdout == f"No daemon runs in {bare.state}.\n"
    assert json.loads(bare.run("call", "query_packages", "--name", "base").stdout)["found"] == "yes"
    assert len(bare.daemons()) == 1

    done = bare.run("stop")

    assert (done.returncode, done.stdout) == (0, f"The daemon of {bare.state} has ended.\n")
    assert bare.daemons() == set()


def test_a_configuration_that_is_wrong_is_told_with_file_and_key(bare: Home) -> None:
    bare.configure("[host]\nroof = '/'\n")

    done = bare.run("status")

    assert (done.returncode, done.stdout) == (1, "")
    assert "roof" in done.stderr
    assert str(bare.config) in done.stderr


def test_a_reader_that_leaves_early_is_no_error(home: Home) -> None:
    argv = home.words((*PROGRAM, "call", "query_graph"))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()

    _, errors = process.communicate(timeout=60)

    assert errors == b""
