"""What people type for a time."""

import os
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.times import Window, host_zone, parse_time, show, window

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)  # a Wednesday, 10:00 in Berlin


def local(text: str, zone: tzinfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("now", "2026-11-25T10:00"),
        ("24h", "2026-11-24T10:00"),
        ("24 hours ago", "2026-11-24T10:00"),
        ("7d", "2026-11-18T10:00"),
        ("30m", "2026-11-25T09:30"),
        ("90s", "2026-11-25T09:58:30"),
        ("2w", "2026-11-11T10:00"),
        ("1h30m", "2026-11-25T08:30"),
        ("1 hour 30 min ago", "2026-11-25T08:30"),
        ("last hour", "2026-11-25T09:00"),
        ("past day", "2026-11-24T10:00"),
        ("last 2 weeks", "2026-11-11T10:00"),
        ("1mo", "2026-10-25T10:00"),
        ("9 months ago", "2026-02-25T10:00"),
        ("1y", "2025-11-25T10:00"),
        ("2026-11-20T08:00", "2026-11-20T08:00"),
        ("2026-11-20 08:00:07", "2026-11-20T08:00:07"),
        ("2026-11-20t08:00:07.250", "2026-11-20T08:00:07.250"),
        ("2026-11-20T08:00Z", "2026-11-20T09:00"),
        ("2026-11-20T08:00:00+05:30", "2026-11-20T03:30"),
        ("2026-11-20 08:00 -0500", "2026-11-20T14:00"),
        ("1764061200", "2025-11-25T10:00"),
        ("today 08:00", "2026-11-25T08:00"),
        ("Yesterday at 18:00", "2026-11-24T18:00"),
        ("yesterday noon", "2026-11-24T12:00"),
        ("monday 08:00", "2026-11-23T08:00"),
        ("wednesday 08:00", "2026-11-25T08:00"),
        ("wednesday 11:00", "2026-11-18T11:00"),
        ("last wednesday 08:00", "2026-11-18T08:00"),
        ("9:30", "2026-11-25T09:30"),
        ("14:30", "2026-11-24T14:30"),
        ("14:30:10", "2026-11-24T14:30:10"),
        ("noon", "2026-11-24T12:00"),
        ("midnight", "2026-11-25T00:00"),
    ],
)
def test_a_point_means_the_same_as_start_and_as_end(text: str, start: str) -> None:
    assert parse_time(text, now=NOW, zone=BERLIN) == local(start)
    assert parse_time(text, now=NOW, zone=BERLIN, end=True) == local(start)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-20", "2026-11-20", "2026-11-21"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("today", "2026-11-25", "2026-11-26"),
        ("yesterday", "2026-11-24", "2026-11-25"),
        ("monday", "2026-11-23", "2026-11-24"),
        ("thu", "2026-11-19", "2026-11-20"),
        ("wednesday", "2026-11-25", "2026-11-26"),
        ("last wednesday", "2026-11-18", "2026-11-19"),
        ("this week", "2026-11-23", "2026-11-30"),
        ("last week", "2026-11-16", "2026-11-23"),
        ("this month", "2026-11-01", "2026-12-01"),
        (" Last  MONTH ", "2026-10-01", "2026-11-01"),
        ("this year", "2026-01-01", "2027-01-01"),
        ("last year", "2025-01-01", "2026-01-01"),
    ],
)
def test_a_span_has_a_start_and_an_end(text: str, start: str, end: str) -> None:
    assert parse_time(text, now=NOW, zone=BERLIN) == local(start)
    assert parse_time(text, now=NOW, zone=BERLIN, end=True) == local(end)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "tomorrow",
        "soon",
        "null",
        "24",
        "24x",
        "h",
        "-7d",
        "1M",
        "1.5h",
        "2026",
        "2026-13-01",
        "2026-02-30",
        "2026-11-20T25:00",
        "2026-11-20T08",
        "2026-11-20T08:00+99:00",
        "20261120",
        "2026-W47",
        "11/20/2026",
        "25:00",
        "18:00 yesterday",
        "last today",
        "last 14:30",
        "today 18",
        "8am",
        "1764061200000",
        "99999999d",
        "999999y",
        "0001-01-01",
        "9999-12-31",
        "٢٤h",
        "24h; DROP",
        "a" * 10_000,
        "1d" * 40,
        "\x1b[31m",
        "ago",
        "last ago",
    ],
)
def test_anything_else_is_refused_in_one_line_that_lists_the_forms(text: str) -> None:
    with pytest.raises(InvalidRequest, match="accepted: 2026-11-20, .*24h.*last month") as refused:
        parse_time(text, now=NOW, zone=BERLIN, end=True)

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@given(some.text(max_size=40))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    with suppress(InvalidRequest):
        assert parse_time(text, now=NOW, zone=BERLIN).tzinfo is UTC


@given(
    some.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1)),
    some.sampled_from([BERLIN, UTC, ZoneInfo("Asia/Kolkata")]),
)
def test_what_show_writes_is_read_back(moment: datetime, zone: tzinfo) -> None:
    exact = moment.replace(microsecond=0, tzinfo=UTC)

    assert parse_time(show(exact, zone), now=NOW, zone=UTC) == exact


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"])
@given(moment=some.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)))
def test_days_by_name_are_never_after_now_and_contain_or_precede_it(zone: str, moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC)
    for text in ("monday", "sunday 13:00", "14:30", "last friday", "yesterday", "today", "this week"):
        assert parse_time(text, now=now, zone=ZoneInfo(zone)) <= now
    assert parse_time("today", now=now, zone=ZoneInfo(zone), end=True) > now


def test_a_time_that_the_clock_skips_comes_after_the_jump() -> None:
    assert show(parse_time("2026-03-29 02:30", now=NOW, zone=BERLIN), BERLIN) == "2026-03-29T03:30:00+02:00"


def test_a_time_that_the_clock_shows_twice_starts_at_the_first_and_ends_at_the_second() -> None:
    text = "2026-10-25 02:30"

    assert show(parse_time(text, now=NOW, zone=BERLIN), BERLIN) == "2026-10-25T02:30:00+02:00"
    assert show(parse_time(text, now=NOW, zone=BERLIN, end=True), BERLIN) == "2026-10-25T02:30:00+01:00"


def test_a_day_without_midnight_starts_when_it_starts() -> None:
    havana = ZoneInfo("America/Havana")  # its clocks went from 00:00 to 01:00 that day

    assert show(parse_time("2026-03-08", now=NOW, zone=havana), havana) == "2026-03-08T01:00:00-04:00"


def test_days_have_24_hours_and_months_are_the_calendars() -> None:
    now = local("2026-03-31T12:00")

    assert parse_time("2d", now=now, zone=BERLIN) == now - timedelta(hours=48)
    assert parse_time("1mo", now=now, zone=BERLIN) == local("2026-02-28T12:00")


def ask(since: str, until: str, default: timedelta | None = None) -> tuple[str, str]:
    found = window(since, until, now=NOW, zone=BERLIN, default=default)
    return show(found.since, BERLIN)[:16] if found.since else "", show(found.until, BERLIN)[:16]


@pytest.mark.parametrize(
    ("since", "until", "start", "end"),
    [
        ("", "", "", "2026-11-25T10:00"),
        ("", "yesterday", "", "2026-11-25T00:00"),
        ("last week", "", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("last month", "", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("yesterday", "", "2026-11-24T00:00", "2026-11-25T00:00"),
        ("yesterday", "now", "2026-11-24T00:00", "2026-11-25T10:00"),
        ("yesterday", "yesterday", "2026-11-24T00:00", "2026-11-25T00:00"),
        ("yesterday 18:00", "", "2026-11-24T18:00", "2026-11-25T10:00"),
        ("2026-11-20", "", "2026-11-20T00:00", "2026-11-25T10:00"),
        ("2026-11-20", "2026-11-20", "2026-11-20T00:00", "2026-11-21T00:00"),
        ("this week", "", "2026-11-23T00:00", "2026-11-25T10:00"),
        ("monday", "", "2026-11-23T00:00", "2026-11-25T10:00"),
        ("monday", "friday", "2026-11-23T00:00", "2026-11-25T10:00"),
        ("sat", "sun", "2026-11-21T00:00", "2026-11-23T00:00"),
        ("09:30", "11:30", "2026-11-25T09:30", "2026-11-25T10:00"),
        ("23:00", "23:30", "2026-11-24T23:00", "2026-11-24T23:30"),
        ("23:00", "01:00", "2026-11-24T23:00", "2026-11-25T01:00"),
        ("7d", "2030-01-01", "2026-11-18T10:00", "2026-11-25T10:00"),
        ("now", "", "2026-11-25T10:00", "2026-11-25T10:00"),
    ],
)
def test_a_window_is_what_two_texts_mean(since: str, until: str, start: str, end: str) -> None:
    assert ask(since, until) == (start, end)


def test_the_default_counts_back_from_the_end() -> None:
    assert ask("", "yesterday 12:00", timedelta(hours=24)) == ("2026-11-23T12:00", "2026-11-24T12:00")
    assert ask("7d", "", timedelta(hours=24)) == ("2026-11-18T10:00", "2026-11-25T10:00")


def test_a_window_is_in_utc() -> None:
    found = window("24h", "", now=NOW.astimezone(BERLIN), zone=BERLIN, default=None)

    assert found == Window(NOW - timedelta(hours=24), NOW)
    assert found.until.tzinfo is UTC


@pytest.mark.parametrize(
    ("since", "until", "says"),
    [
        ("today 18:00", "", "since='today 18:00' is in the future; it is 2026-11-25T10:00:00[+]01:00 now"),
        ("2027-01-01", "2027-02-01", "in the future"),
        ("2h", "3h", r"since \(2026-11-25T08:00:00[+]01:00\) is after until \(2026-11-25T07:00:00[+]01:00\)"),
        ("today", "2026-11-20", "is after until"),
        ("whenever", "", "accepted:"),
        ("", "whenever", "accepted:"),
    ],
)
def test_an_impossible_window_is_refused_with_the_reason(since: str, until: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        ask(since, until)


def etc(root: Path) -> Path:
    (root / "etc").mkdir()
    return root / "etc" / "localtime"


def offset(root: Path) -> timedelta | None:
    return datetime(2026, 7, 1, tzinfo=host_zone(root)).utcoffset()


@pytest.mark.parametrize(
    "target", ["/usr/share/zoneinfo/Europe/Berlin", "../usr/share/zoneinfo/Europe/Berlin"]
)
def test_the_zone_is_what_the_link_names(tmp_path: Path, target: str) -> None:
    etc(tmp_path).symlink_to(target)

    assert str(host_zone(tmp_path)) == "Europe/Berlin"


def tzif(seconds: int) -> bytes:
    """A zone file of version 1 with one offset and no changes."""
    return (
        b"TZif"
        + b"\0" * 16
        + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
        + struct.pack(">lbb", seconds, 0, 0)
        + b"XYZ\0"
    )


def test_the_zone_is_what_the_file_holds(tmp_path: Path) -> None:
    etc(tmp_path).write_bytes(tzif(5 * 3600))

    assert offset(tmp_path) == timedelta(hours=5)


def test_a_zone_that_only_the_root_knows_is_read_from_there(tmp_path: Path) -> None:
    etc(tmp_path).symlink_to("/usr/share/zoneinfo/Moon/Tranquillity")
    (tmp_path / "usr/share/zoneinfo/Moon").mkdir(parents=True)
    (tmp_path / "usr/share/zoneinfo/Moon/Tranquillity").write_bytes(tzif(7200))

    assert offset(tmp_path) == timedelta(hours=2)


def test_without_a_zone_it_is_utc(tmp_path: Path) -> None:
    assert host_zone(tmp_path) is UTC


@pytest.mark.parametrize(
    "target",
    [
        "/outside",
        "../../../../etc/shadow",
        "/x/zoneinfo/../../etc/shadow",
        "/x/zoneinfo/Not/There",
        "zoneinfo/..",
    ],
)
def test_a_link_that_names_no_zone_is_not_followed(tmp_path: Path, target: str) -> None:
    etc(tmp_path).symlink_to(target)

    assert host_zone(tmp_path) is UTC


def test_a_linked_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "real" / "localtime").write_bytes(tzif(3600))
    (tmp_path / "root" / "etc").symlink_to(tmp_path / "real")

    assert host_zone(tmp_path / "root") is UTC


def test_a_pipe_in_the_zones_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(etc(tmp_path))

    assert host_zone(tmp_path) is UTC


@given(some.binary(max_size=200), some.integers(0, 80))
def test_a_damaged_zone_file_is_utc_or_a_zone(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, keep: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    etc(root).write_bytes(Path("/usr/share/zoneinfo/Europe/Berlin").read_bytes()[:keep] + noise)

    assert isinstance(host_zone(root), tzinfo)
