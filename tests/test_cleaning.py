import json
import logging
import math
import re
import threading
import time
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.canaries import CANARIES, CARRIERS, Canary
from watchman_mcp.cleaning import LIST_LIMIT, RULES_VERSION, Cleaner, LogFilter
from watchman_mcp.errors import Broken

MARK = re.compile(r"\[redacted:([a-z-]+):([0-9a-f]{8})\]")


@pytest.fixture
def cleaner() -> Cleaner:
    return Cleaner(b"a key that stays on the machine.")


def a_piece_of(secret: str, text: str) -> str:
    """The first six characters in a row of a secret that a text still holds."""
    return next((secret[i : i + 6] for i in range(len(secret) - 5) if secret[i : i + 6] in text), "")


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.kind)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_piece_of_a_planted_secret_survives(cleaner: Cleaner, canary: Canary, carrier: str) -> None:
    carried = CARRIERS[carrier](canary.text)

    for multiline in (False, True):
        text = cleaner.text(carried, multiline=multiline)

        assert a_piece_of(canary.secret, text) == ""
        assert MARK.search(text)
        assert cleaner.text(text, multiline=multiline) == text


def test_the_canaries_are_many_and_each_has_a_value_of_its_own() -> None:
    assert len({canary.kind for canary in CANARIES}) == len(CANARIES) >= 50
    assert len({canary.secret for canary in CANARIES}) == len(CANARIES)
    assert all(canary.secret in canary.text for canary in CANARIES)


INNOCENT = (
    "token_count=5",
    "Author: Joe Bloggs <joe@example.com>",
    "keyboard=us",
    "agent --key-file /etc/agent/key.pem --config /etc/agent.toml",
    "ssh -i /root/.ssh/id_ed25519 root@host",
    "password_file=/run/secrets/db",
    "POSTGRES_PASSWORD_FILE=/run/secrets/db",
    "PWD=/root/work OLDPWD=/tmp",
    "libsecret-1-0",
    "python3-keyring",
    "golang-golang-x-oauth2-google-dev",
    "passwd:amd64 (1:4.13+dfsg1-1)",
    "apt-get install passwd=1:4.13+dfsg1-1+b1 libsecret-1-0=0.20.5-3 python3-secretstorage",
    "2024-05-01 10:00:00 status installed libpam-passwdqc:amd64 2.0.2-1",
    "Upgrade: passwd:amd64 (1:4.13, 1:4.14), gir1.2-secret-1:amd64 (0.20.5-3, 0.20.5-4)",
    "1:2.36.0-1+deb12u1",
    "commit 3f2a9c1e5b7d9f0a2c4e6b8d0f1a3c5e7b9d1f2a",
    "550e8400-e29b-41d4-a716-446655440000",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "/usr/share/doc/libghc-concurrent-output-dev/html/Concurrent-Output-2.1.5.html",
    "May  1 10:00:00 host sshd[77]: Accepted password for root from 192.0.2.7 port 50022 ssh2",
    "May  1 10:00:00 host sshd[77]: Failed password for invalid user joe from 192.0.2.7",
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7",
    "Started Forward Password Requests to Wall Directory Watch.",
    "error: password: incorrect for user joe",
    "unexpected token: } in line 5",
    "passwd: files systemd",
    "Enter password: ",
    "docker run -d -p 8080:80 -u 1000:1000 -v /data:/data nginx:1.25",
    "mysql -u root -p shop",
    "mysqld --port=3306 --pid-file=/run/mysqld/mysqld.pid",
    "rsync -avp -u host:/srv/data /backup",
    "https://example.com:8443/path@2x.png?page=2&sort=name",
    "https://registry.npmjs.org:443/@types/node/-/node-20.1.0.tgz",
    "git+ssh://git@github.com/owner/repo.git",
    "http://[2001:db8::1]:8080/",
    "echo hello world | sudo tee /etc/motd",
    "password: ${DB_PASSWORD}",
    "token: {{ vault_token }}",
    '{"auth": {"enabled": true}, "token": null, "password": ""}',
    "secretName: tls-cert",
    "public_key=ssh-ed25519",
    "primary key: id",
    "fe80::1234:5678:9abc:def0 dev eth0 lladdr 52:54:00:12:34:56",
    "root:x:0:0:root:/root:/bin/bash",
    "disk-usage-monitor-with-a-rather-long-name-2024-edition",
    "12:00:00.123456 host app: 10:20:30 done",
)


@pytest.mark.parametrize("text", INNOCENT)
def test_ordinary_text_is_left_alone(cleaner: Cleaner, text: str) -> None:
    assert cleaner.text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "café Ωmega Привет",
        "日本語のパッケージ　名",
        "العربية",
        "हिन्दी ไทย 한국어",
        "naïve 👍🏽 ❤️ →",
        "10\u00a0000\u202f€",
    ],
)
def test_international_text_is_kept(cleaner: Cleaner, text: str) -> None:
    assert cleaner.text(text) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("a\x00\x1b[31m\x7f\x9b", "a\\u0000\\u001b[31m\\u007f\\u009b"),
        ("caf\udce9 \ud800", "caf\\xe9 \\ud800"),
        ("\u202egnp.exe\u2066\u200e\u061c", "\\u202egnp.exe\\u2066\\u200e\\u061c"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufeff", "a\\u200bb\\u200cc\\u200dd\\u2060e\\ufeff"),
        ("\U000e0041\U000e0101", "\\U000e0041\\U000e0101"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\ue000\U000f0000\uffff\u0378", "\\ue000\\U000f0000\\uffff\\u0378"),
        ("\u115f\u3164\ufe00\u034f\u00ad", "\\u115f\\u3164\\ufe00\\u034f\\u00ad"),
    ],
)
def test_what_cannot_be_seen_is_escaped(cleaner: Cleaner, raw: str, shown: str) -> None:
    assert cleaner.text(raw) == shown
    assert cleaner.text(shown) == shown


def test_line_ends_and_tabs_stay_only_where_several_lines_are_wanted(cleaner: Cleaner) -> None:
    assert cleaner.text("a\tb\r\nc", multiline=True) == "a\tb\\r\nc"
    assert cleaner.text("a\tb\r\nc") == "a\\tb\\r\\nc"


def test_equal_secrets_look_equal_under_one_key_and_differ_under_another(cleaner: Cleaner) -> None:
    texts = (
        "PASSWORD=hunter2x",
        "run --password 'hunter2x' now",
        '{"password": "hunter2x"}',
        "mysql -phunter2x",
    )

    marks = {match[2] for match in (MARK.search(cleaner.text(text)) for text in texts) if match}

    assert marks == {cleaner.fingerprint("hunter2x")}
    assert marks != {Cleaner(b"another key").fingerprint("hunter2x")}


def test_a_redacted_document_is_still_json(cleaner: Cleaner) -> None:
    document = {"user": "joe", "password": "x y z1", "nested": {"apiKey": "q1w2e3r4t5", "port": 5432}}

    cleaned = json.loads(cleaner.text(json.dumps(document)))

    assert cleaned["user"] == "joe"
    assert cleaned["nested"]["port"] == 5432
    assert MARK.fullmatch(cleaned["password"])
    assert MARK.fullmatch(cleaned["nested"]["apiKey"])


def test_a_command_line_keeps_everything_but_its_secret(cleaner: Cleaner) -> None:
    text = cleaner.text(
        "curl -u joe:hunter2x -H 'X-Api-Key: q1w2e3r4t5' https://u:p4ss@example.com/a?token=abcd1234&b=2"
    )

    assert MARK.sub("*", text) == "curl -u joe:* -H 'X-Api-Key: *' https://u:*@example.com/a?token=*&b=2"


def test_a_text_is_cut_after_its_secrets_are_gone_and_says_how_much_is_missing(cleaner: Cleaner) -> None:
    text = cleaner.text("x" * 40 + " --password hunter2hunter2hunter2", limit=60)

    assert "hunter" not in text
    assert len(text) <= 60
    assert text == "x" * 40 + " --password \u2026[+28]"


def test_a_cut_text_counts_every_character_that_is_missing(cleaner: Cleaner) -> None:
    assert cleaner.text("y" * 5000, limit=100) == "y" * 92 + "\u2026[+4908]"
    text = cleaner.text("z " * 500_000, limit=100)
    assert text.startswith("z z z ")
    assert re.search(r"\u2026\[\+(\d+)\]$", text)[1] == str(1_000_000 - text.index("\u2026"))


@pytest.mark.parametrize("offset", [*range(-40, 40, 3)])
def test_a_secret_at_the_edge_of_what_is_read_does_not_survive_in_half(cleaner: Cleaner, offset: int) -> None:
    before = "w " * 32_768
    text = cleaner.text(
        before[: 65_536 - offset] + " https://joe:hunter2hunter2@example.com/ " + before, limit=4096
    )
    whole = cleaner.text(
        before[: 65_536 - offset] + " https://joe:hunter2hunter2@example.com/", limit=200_000
    )

    assert "hunter" not in text
    assert "hunter" not in whole


def test_a_secret_is_not_remembered(cleaner: Cleaner) -> None:
    for _ in range(3):
        cleaner.text("PASSWORD=hunter2x")
        cleaner.text("libc6")

    assert "hunter2x" not in repr(vars(cleaner))


def test_a_row_comes_back_with_every_value_safe(cleaner: Cleaner) -> None:
    now = datetime.now(UTC)
    values: dict[str, object] = {
        "name": "a\x00b",
        "command": "run --password hunter2x",
        "tags": ["x", "token=q1w2e3r4", "\u202e"],
        "numbers": [1, 2**80],
        "size": 2**70,
        "less": -(2**70),
        "load": math.nan,
        "peak": math.inf,
        "ratio": 0.5,
        "enabled": True,
        "seen": now,
        "none": None,
    }

    row = cleaner.row("Software", values)

    assert list(row) == list(values)
    assert row["name"] == "a\\u0000b"
    assert "hunter2x" not in str(row)
    assert "q1w2e3r4" not in str(row)
    assert row["tags"][2] == "\\u202e"
    assert row["numbers"] == [1, 2**63 - 1]
    assert (row["size"], row["less"]) == (2**63 - 1, -(2**63))
    assert (row["load"], row["peak"], row["ratio"]) == (None, None, 0.5)
    assert row["enabled"] is True
    assert (row["seen"], row["none"]) == (now, None)
    assert cleaner.row("Software", row) == row


def test_a_long_list_ends_by_telling_how_many_are_left_out(cleaner: Cleaner) -> None:
    row = cleaner.row("Software", {"files": [f"f{number}" for number in range(1500)]})

    assert len(row["files"]) == LIST_LIMIT
    assert row["files"][-2:] == ["f998", "\u2026[+501]"]
    assert cleaner.row("Software", row) == row


@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, object(), [["nested"]], [b"x"], {1, 2}])
def test_a_value_of_another_type_breaks_only_its_row_and_is_named(cleaner: Cleaner, value: object) -> None:
    with pytest.raises(Broken, match=r"Software\.files is of type"):
        cleaner.row("Software", {"name": "x", "files": value})


def logged(*arguments: object, error: Exception | None = None) -> str:
    record = logging.LogRecord("watchman", logging.ERROR, __file__, 1, str(arguments[0]), arguments[1:], None)
    if error is not None:
        record.exc_info = (type(error), error, error.__traceback__)
    return LogFilter(logging.Formatter("%(levelname)s %(message)s")).format(record)


def test_a_log_line_is_cleaned_with_its_arguments() -> None:
    text = logged("connecting to %s as %s", "postgres://joe:hunter2x@db/x", "a\nERROR forged")

    assert "hunter2x" not in text
    assert text.count("\n") == 0
    assert text.endswith("as a\\nERROR forged")


def test_a_traceback_is_cleaned_and_keeps_its_lines() -> None:
    try:
        raise ValueError("no such login: password=hunter2x")
    except ValueError as error:
        text = logged("failed", error=error)

    assert "hunter2x" not in text
    assert 'raise ValueError("no such login' in text
    assert text.count("\n") >= 3


def test_arguments_that_do_not_fit_their_message_are_written_cleaned() -> None:
    text = logged("%d items", "password=hunter2x")

    assert "hunter2x" not in text
    assert "arguments that do not fit" in text


FRAGMENTS = (
    "password",
    "passphrase",
    "PASSWORD",
    "secret",
    "token",
    "api_key",
    "auth",
    "Authorization",
    "Bearer ",
    "Basic ",
    "Cookie",
    "key",
    "pwd",
    "=",
    ": ",
    ":",
    " = ",
    " ",
    "  ",
    "\n",
    "\t",
    "\\n",
    "\\",
    '"',
    "'",
    '\\"',
    '\\\\"',
    "`",
    ",",
    ";",
    "&",
    "?",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "/",
    "@",
    "://",
    "https://u:p@h",
    "#",
    "%3D",
    "$",
    "${X}",
    "|",
    "--",
    "-",
    "-p",
    " -p",
    "-u ",
    "mysql",
    "curl",
    "sshpass",
    "login",
    "echo ",
    "| sudo -S",
    "machine ",
    "name: ",
    "value: ",
    "hunter2x",
    "a",
    "x1Y2z3w4",
    "true",
    "/etc/x",
    "1.2.3",
    "correct horse",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "ghp_" + "a1B2" * 9,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9.abc",
    "$6$abcdefgh$" + "a1B2" * 8,
    "AKIA" + "A1B2" * 4,
    "é",
    "\u202e",
    "\udc80",
    "\x00",
    "\u200b",
    "😀",
    "[redacted:password:0123abcd]",
    "[redacted:",
    "\u2026[+5]",
    "\u2026",
    "h:5432:db:me:",
    "'\"'\"'",
    "requirepass ",
    "jdbc:oracle:thin:a/",
    "set-initial-password ",
    "htpasswd -b ",
)
HOSTILE = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join),
    st.text(st.characters(), max_size=60),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(), max_size=5)), max_size=10).map(
        "".join
    ),
)
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
VISIBLE_MARKS = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)


@given(text=HOSTILE, multiline=st.booleans(), limit=st.sampled_from([48, 100, 4000]))
@settings(max_examples=600)
def test_any_text_becomes_visible_bounded_and_stays_as_it_is(text: str, multiline: bool, limit: int) -> None:
    cleaner = Cleaner(b"k")

    cleaned = cleaner.text(text, limit=limit, multiline=multiline)

    assert len(cleaned) <= limit
    hidden = {character for character in cleaned if unicodedata.category(character) in HIDDEN} - VISIBLE_MARKS
    assert hidden <= ({"\n", "\t"} if multiline else set())
    assert json.loads(json.dumps(cleaned)) == cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert cleaner.text(cleaned, limit=limit, multiline=multiline) == cleaned


@given(text=st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join))
@settings(max_examples=60)
def test_the_time_a_text_takes_grows_with_its_length_only(text: str) -> None:
    cleaner = Cleaner(b"k")
    long = (text * (200_000 // len(text)))[:200_000]

    started = time.process_time()
    cleaner.text(long, limit=1_000_000)

    assert time.process_time() - started < 5


ADVERSE = (
    "a",
    " ",
    "=",
    "\\",
    '"',
    "'",
    "password=",
    "password=x ",
    "password='x",
    'password="x',
    "auth=",
    "auth=ab ",
    "a=b ",
    "://",
    "://a:",
    "://a:b@",
    "x://a:b@c ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "mysql ",
    "mysql -pa ",
    "curl -u a:b ",
    "echo a|sudo ",
    'pwd=\\"',
    '"pwd=a ',
    "Cookie: a=b; ",
    "Authorization: Digest a=b, ",
    "eyJaaaaaaaa.",
    "sk-1A",
    "SG.aaaaaaaaaaaaaaaaa",
    "\u202e",
    "\udc80",
    "\x00",
    "password:\n",
    "name: DB_PASSWORD, value: ",
    "name=a,,,,,",
    "--password ",
    "login a password ",
    "h.x:5432:d:u:",
    "pwd=,a",
    "htpasswd -b ",
    "aws set a",
    "password: [",
    'requirepass "',
    "passphrase: a ",
)


@pytest.mark.parametrize("piece", ADVERSE)
def test_a_megabyte_of_hostile_text_is_cleaned_in_bounded_time(cleaner: Cleaner, piece: str) -> None:
    text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]

    started = time.process_time()
    cleaner.text(text)
    middle = time.process_time()
    cleaner.text(text[:400_000], limit=1_000_000)

    # 0.1 and 0.8 seconds of a processor at most; what grows with the square of the length takes minutes.
    assert middle - started < 1.5
    assert time.process_time() - middle < 10


def test_many_threads_get_what_one_gets(cleaner: Cleaner) -> None:
    texts = [
        f"package-{number} token=q1w2e3r4{number}" if number % 7 == 0 else f"package-{number}"
        for number in range(20_000)
    ]
    expected = [Cleaner(b"a key that stays on the machine.").text(text) for text in texts]
    wrong: list[str] = []

    def work() -> None:
        wrong.extend(
            text for text, wanted in zip(texts * 2, expected * 2, strict=True) if cleaner.text(text) != wanted
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []


def test_the_rules_have_a_version() -> None:
    assert RULES_VERSION >= 1
