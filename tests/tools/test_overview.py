"""What overview answers: the machine on one screen."""

from datetime import UTC, datetime
from typing import Any

from tests.story import Story, about, busy_week, package
from watchman_mcp.alerts.judging import judge
from watchman_mcp.rules import RULES
from watchman_mcp.schema.network import NetworkEndpoint, VPNConnection
from watchman_mcp.schema.packages import PackageIndex
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import MAX_BYTES, compact, size
from watchman_mcp.tools.overview import overview


def ask(store: Store) -> dict[str, Any]:
    return compact(overview(store, about()))


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def test_the_machine_is_told_on_one_screen(store: Store, story: Story) -> None:
    story.look(60, [package("vim"), package("nginx")])
    story.sample(1)

    answer = ask(store)

    assert answer == {
        "found": "yes",
        "host": "box",
        "observed_at": story.shown(60),
        "os": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-13-amd64",
        "up_since": story.shown(3 * 1440),
        "uptime": "3 d 0 h",
        "load": {
            "cpu_percent": 12.5,
            "load_average_1m": 0.5,
            "load_average_15m": 0.3,
            "memory_used_gb": 4.0,
            "memory_total_gb": 16.0,
            "swap_used_gb": 0.0,
            "processes": 120,
        },
        "disks": [
            {"mount_point": "/", "filesystem": "/dev/vda1", "use_percent": 20.0, "available_gb": 80.0},
        ],
        "packages": {"apt": 2},
        "changes_today": {"since": midnight().isoformat(timespec="seconds"), "events": 0, "by_type": {}},
        "more": "system_metrics: load and disks. query_packages: software, updates. "
        "network_status: network. what_changed: changes. "
        "doctor: what cannot be seen.",
    }


def test_newer_versions_are_counted_where_a_manager_can_know_them(store: Store, story: Story) -> None:
    newer = [
        package("vim", available="2.0", security_update=True),
        package("jq", available="2.0", security_update=False),
    ]
    story.look(60, newer)
    assert "updates" not in ask(store)

    story.look(50, [*newer, PackageIndex(manager="apt")])
    assert ask(store)["updates"] == {"available": 2, "security": 1}


def test_ports_that_others_can_reach_are_counted(store: Store, story: Story) -> None:
    def port(number: int, exposure: str, namespace: str | None = None) -> NetworkEndpoint:
        return NetworkEndpoint(protocol="tcp", port=number, exposure=exposure, namespace=namespace)

    ports = [port(22, "lan"), port(443, "internet"), port(80, "internet"), port(5432, "loopback")]
    story.things(5, "ports", NetworkEndpoint, [*ports, port(1, "internet", "box")])

    assert ask(store)["exposed_ports"] == {"internet": 2, "lan": 1}


def test_before_any_look_nothing_can_be_told(store: Store) -> None:
    answer = ask(store)

    assert answer["found"] == "cannot_tell"
    assert "load" not in answer


def test_changes_since_midnight_are_counted_by_type(store: Store, story: Story) -> None:
    since_midnight = (story.now - midnight()).total_seconds() / 60
    story.look(2 * 1440, [package("vim")])
    records = [
        story.event("package_remove", "old", since_midnight + 1),
        story.event("package_install", "new", since_midnight / 2),
        story.event("package_install", "newer", since_midnight / 3),
    ]
    story.look(0, [package("vim"), package("new"), package("newer")], records=records)

    assert ask(store)["changes_today"]["by_type"] == {"package_install": 2}
    assert ask(store)["changes_today"]["events"] == 2


def test_changes_of_rare_types_are_counted_too(store: Store, story: Story) -> None:
    kinds = ("install", "update", "downgrade", "remove", "purge", "reinstall", "changed", "odd")
    story.look(2, [])
    story.look(0, [], records=[story.event(f"package_{kind}", kind, 0) for kind in kinds])

    today = ask(store)["changes_today"]

    assert (today["events"], len(today["by_type"])) == (8, 6)


def test_what_needs_attention_is_named_with_the_tool_for_detail(store: Store, story: Story) -> None:
    whole = [package("tool", state="linked"), package("app", state="disabled")]
    story.look(60, [package("vim", state="half-configured"), *whole])
    story.sample(1, used=15.9, disks={"/": (95.0, 5.0), "/srv": (91.0, 9.0), "/home": (10.0, 90.0)})

    answer = ask(store)

    assert answer["problems"] == [
        "Less than 5 % of memory is available: system_metrics view=memory",
        "2 file systems are at least 90 % full: system_metrics view=disks",
        "1 packages are not fully installed: query_packages shows their state",
    ]
    assert [disk["mount_point"] for disk in answer["disks"]] == ["/", "/srv", "/home"]


def test_open_alerts_are_told_worst_first_and_counted_where_there_are_many(
    store: Store, story: Story
) -> None:
    def look(minutes: float, *states: str) -> None:
        tunnels = [
            VPNConnection(type="openvpn", peer=f"p{n}", status=state) for n, state in enumerate(states)
        ]
        story.things(minutes, "vpn", VPNConnection, tunnels)
        judge(store, RULES, story.ago(minutes))

    story.sample(50)
    judge(store, RULES, story.ago(50))
    look(50, *["active"] * 7)
    look(48, "stale", *["active"] * 6)
    look(46, "stale", "down", *["active"] * 5)
    look(44, "stale", "down", *["active"] * 5)

    answer = ask(store)
    assert [(one["severity"], one["message"], one["since"]) for one in answer["alerts"]] == [
        ("warning", 'The tunnel "openvpn p1" is no longer connected', story.shown(44)),
        (
            "notice",
            'The tunnel "openvpn p0" has had no sign of its peer for minutes; it may only be idle',
            story.shown(46),
        ),
    ]
    assert answer["totals"] == {"alerts": 2}
    assert all(one["id"].startswith("alr_") and "count" not in one for one in answer["alerts"])

    look(40, *["down"] * 7)
    look(38, *["down"] * 7)
    answer = ask(store)
    assert (len(answer["alerts"]), answer["totals"]) == (5, {"alerts": 8})
    assert answer["cut"] == "5 of 8 alerts; what_changed kind=alert lists them"
    assert {one["severity"] for one in answer["alerts"]} == {"warning"}

    look(30, *["active"] * 7)
    look(10, *["active"] * 7)
    assert "alerts" not in ask(store)


def test_a_store_that_cannot_be_written_is_the_first_problem(store: Store, story: Story) -> None:
    store.notes.append("Kept in memory only: the state directory cannot be written.")
    store.trouble = "disk full"

    assert ask(store)["problems"][:2] == [
        "Nothing can be written to the store; doctor says why",
        "Kept in memory only: the state directory cannot be written.",
    ]


def test_one_of_the_things_that_cannot_be_seen_is_named_and_the_rest_counted(
    store: Store, story: Story
) -> None:
    story.look(60, [package("vim")], unobserved=[f"/root/{n}: permission denied" for n in range(4)])

    answer = ask(store)

    assert [(seen["what"], seen["why"]) for seen in answer["unobserved"]] == [
        ("/root/0", "permission denied")
    ]
    assert answer["unobserved_more"] == "3 more; doctor lists them"


def test_a_busy_machine_is_told_within_the_budget(store: Store) -> None:
    busy_week(store)

    print(f"\noverview: {size(ask(store))} bytes")
    assert size(ask(store)) <= 1_200


def test_a_machine_in_trouble_is_told_within_the_bound_of_any_answer(store: Store) -> None:
    story = busy_week(store)
    long = "é" * 4000
    store.notes += [long, long]
    story.host(5, name=long[:4000], os=long, kernel=long)
    story.look(5, [package("vim")], unobserved=[f"{long}: {long}"])

    assert size(ask(store)) <= MAX_BYTES
