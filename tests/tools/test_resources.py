"""What system_metrics answers: now, over time, and when a disk will be full."""

from datetime import timedelta
from typing import Any

import pytest

from tests.story import Story, busy_week
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.resources import InterfaceMetrics, ProcessMetrics
from watchman_mcp.store.batch import Batch
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import MAX_BYTES, compact, size
from watchman_mcp.tools.resources import system_metrics
from watchman_mcp.tools.resources.charts import BARS, sparkline

NOW = {
    "cpu_percent": 12.5,
    "load_average_1m": 0.5,
    "load_average_5m": 0.4,
    "load_average_15m": 0.3,
    "memory_used_gb": 4.0,
    "memory_total_gb": 16.0,
    "memory_available_gb": 12.0,
    "swap_used_gb": 0.0,
    "disk_read_mb_s": 0.1,
    "disk_write_mb_s": 0.2,
    "processes": 120,
}
ROOT = {
    "mount_point": "/",
    "filesystem": "/dev/vda1",
    "used_gb": 20.0,
    "available_gb": 80.0,
    "use_percent": 20.0,
    "inodes_percent": 3.0,
}


def ask(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(system_metrics(store, **arguments))


def busy(story: Story, *processes: tuple[str, float, float]) -> None:
    """Processes were seen a minute ago, with their CPU and memory."""
    samples = [
        ProcessMetrics(
            name=name,
            pid=100 + number,
            started_at=story.ago(500),
            user="www-data",
            timestamp=story.ago(1),
            cpu_percent=cpu,
            memory_mb=memory,
        )
        for number, (name, cpu, memory) in enumerate(processes)
    ]
    batch = Batch(at=story.ago(1), samples=[("ProcessMetrics", dict(one.__dict__)) for one in samples])
    story.store.write(batch)


def test_the_machine_now_is_its_newest_sample_with_disks_and_the_busiest_processes(
    store: Store, story: Story
) -> None:
    story.sample(10, cpu=99.0)
    story.sample(1)
    busy(story, ("nginx", 3.0, 50.0), ("postgres", 40.0, 900.0))

    process = {"name": "nginx", "pid": 100, "user": "www-data", "cpu_percent": 3.0, "memory_mb": 50.0}
    started = {"started_at": story.shown(500)}
    assert ask(store) == {
        "found": "yes",
        "host": "box",
        "observed_at": story.shown(1),
        "source": "samples of the kernel's counters",
        "now": NOW,
        "disks": [ROOT],
        "processes": [
            {**process, "name": "postgres", "pid": 101, "cpu_percent": 40.0, "memory_mb": 900.0, **started},
            {**process, **started},
        ],
    }


def test_before_the_first_sample_nothing_can_be_told(store: Store, story: Story) -> None:
    assert ask(store)["found"] == "cannot_tell"
    assert ask(store, view="disks", chart=True)["note"] == "Nothing was measured yet"


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("cpu", {"now", "processes"}),
        ("memory", {"now", "processes"}),
        ("disks", {"now", "disks"}),
        ("io", {"now", "network"}),
        ("network", {"network"}),
        ("processes", {"processes"}),
    ],
)
def test_a_view_shows_its_part(store: Store, story: Story, view: str, shown: set[str]) -> None:
    story.sample(1)

    answer = ask(store, view=view)

    assert answer.keys() - {"found", "host", "observed_at", "source"} == shown


def test_processes_are_ranked_by_what_the_view_is_about(store: Store, story: Story) -> None:
    story.sample(1)
    busy(story, ("hungry", 1.0, 900.0), ("busy", 90.0, 10.0))

    assert [p["name"] for p in ask(store, view="processes")["processes"]] == ["busy", "hungry"]
    assert [p["name"] for p in ask(store, view="memory")["processes"]] == ["hungry", "busy"]


def test_traffic_is_ranked_and_a_first_sample_without_rates_is_unknown_not_zero(
    store: Store, story: Story
) -> None:
    story.sample(1)
    rows = [
        InterfaceMetrics(interface=name, timestamp=story.ago(1), rx_mb_s=rate, tx_mb_s=rate, errors=0)
        for name, rate in (("lo", None), ("eth0", 2.5), ("wg0", 0.25))
    ]
    store.write(Batch(at=story.ago(1), samples=[("InterfaceMetrics", dict(row.__dict__)) for row in rows]))

    assert ask(store, view="network")["network"] == [
        {"interface": "eth0", "rx_mb_s": 2.5, "tx_mb_s": 2.5, "errors": 0},
        {"interface": "wg0", "rx_mb_s": 0.25, "tx_mb_s": 0.25, "errors": 0},
        {"interface": "lo", "errors": 0},
    ]


# Over time


def test_the_course_of_a_value_has_at_most_sixty_steps_with_extremes_and_a_picture(
    store: Store, story: Story
) -> None:
    for minute in range(240, 0, -1):
        story.sample(minute, cpu=100.0 if minute == 100 else 10.0)

    answer = ask(store, view="cpu", since=story.shown(240))

    one = answer["series"][0]
    assert (one["of"], one["metric"], one["start"]) == ("machine", "cpu_percent", story.shown(240))
    assert len(one["values"]) == len(one["chart"]) == 60
    assert (one["min"], one["max"]) == (10.0, 100.0)
    assert 10.0 < one["mean"] < 13.0
    assert 235 <= one["step_seconds"] <= 241
    assert one["chart"].count("█") == 1
    assert answer["window"]["covered"] == f"watching since {story.shown(240)}"


def test_a_time_without_samples_is_a_gap_and_not_zero(store: Store, story: Story) -> None:
    story.sample(100, cpu=50.0)
    story.sample(1, cpu=50.0)

    one = ask(store, view="cpu", since="2h")["series"][0]

    assert one["values"][0] == 50.0
    assert one["values"][1:50] == [None] * 49
    assert (one["min"], one["mean"], one["max"]) == (50.0, 50.0, 50.0)
    assert " " in one["chart"]


def test_a_chart_is_of_the_last_day_unless_a_time_is_given(store: Store, story: Story) -> None:
    story.sample(60 * 30, cpu=90.0)
    story.sample(60, cpu=10.0)
    story.sample(1, cpu=10.0)

    assert ask(store, view="cpu", chart=True)["series"][0]["max"] == 10.0
    assert ask(store, view="cpu", since="2d")["series"][0]["max"] == 90.0


def test_the_course_of_disks_is_one_series_for_each_and_the_fullest_come_first(
    store: Store, story: Story
) -> None:
    for minute in (90, 60, 1):
        story.sample(minute, disks={"/": (20.0, 80.0), "/home": (90.0, 10.0)})

    series = ask(store, view="disks", chart=True)["series"]

    assert [(one["of"], one["metric"]) for one in series] == [
        ("/home", "use_percent"),
        ("/home", "used_gb"),
        ("/", "use_percent"),
        ("/", "used_gb"),
    ]


def test_a_time_before_the_first_sample_holds_nothing(store: Store, story: Story) -> None:
    story.sample(1)

    answer = ask(store, view="cpu", since="30d", until="20d")

    assert (answer["found"], answer["series"]) == ("none", [])


def test_a_time_that_is_none_is_refused(store: Store, story: Story) -> None:
    story.sample(1)

    with pytest.raises(InvalidRequest, match="accepted: "):
        ask(store, since="lately")


# Time to full


@pytest.mark.parametrize(
    ("grown", "over", "free", "full_in"),
    [
        (24.0, 24, 72.0, "3 days"),
        (24.0, 24, 12.0, "12 hours"),
        (0.0, 24, 10.0, None),
        (-5.0, 24, 10.0, None),
        (5.0, 3, 10.0, None),
        (0.02, 24, 80.0, None),
    ],
)
def test_time_to_full_follows_the_growth_of_the_last_week(
    store: Store, story: Story, grown: float, over: float, free: float, full_in: str | None
) -> None:
    story.sample(60 * 24 * 30, disks={"/": (1.0, 99.0)})
    story.sample(over * 60, disks={"/": (50.0 - grown, free + grown)})
    story.sample(0, disks={"/": (50.0, free)})

    assert ask(store, view="disks")["disks"][0].get("full_in") == full_in


# Shape


@pytest.mark.parametrize(
    ("values", "picture"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([5.0], "█"),
        ([0, 50, 100], "▁▅█"),
        ([None, 1.0, None], " █ "),
        ([-7, 0], "▁█"),
        ([float(n) for n in range(8)], BARS),
    ],
)
def test_a_sparkline_is_a_bar_for_each_value_and_a_space_for_a_gap(values: list[Any], picture: str) -> None:
    assert sparkline(values) == picture


def test_a_list_that_is_cut_says_so(store: Store, story: Story) -> None:
    story.sample(1, disks={f"/mnt/{n:02}": (1.0, 99.0) for n in range(30)})

    assert len(ask(store, view="disks")["disks"]) == 20
    assert ask(store, view="disks")["cut"].startswith("20 of 30 disks")
    assert "cut" not in ask(store, view="disks", limit=30)


def test_an_answer_about_many_long_names_stays_within_its_bound(store: Store, story: Story) -> None:
    long = "é" * 1000
    for minute in (60, 30, 1):
        story.sample(minute, disks={f"/{n}{long}": (12345.67 + n, 99.0) for n in range(300)})

    for arguments in ({"view": "disks", "limit": 500}, {"view": "disks", "chart": True, "limit": 500}, {}):
        answer = ask(store, **arguments)
        assert answer["cut"]
        assert size(answer) <= MAX_BYTES, arguments


def test_a_day_of_everything_in_one_chart_is_no_more_than_it_must_be(store: Store) -> None:
    busy_week(store)

    sizes = {view: size(ask(store, view=view, chart=True)) for view in ("summary", "cpu", "disks")}

    print(f"\ncharts of a day: {sizes}")
    assert max(sizes.values()) <= 5_000


def test_a_sample_is_older_than_the_answer_and_the_answer_says_so(store: Store, story: Story) -> None:
    story.sample(45)

    assert ask(store)["observed_at"] == (story.now - timedelta(minutes=45)).isoformat(timespec="seconds")
