"""When alerts open and close: a story for each rule, and what must not open one, or ten."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from tests.story import Story, package, serving
from watchman_mcp.alerts import Alerts
from watchman_mcp.alerts.judging import BEHIND, MOST, Memory, judge
from watchman_mcp.collectors import Collector, Look, Seen, minutes
from watchman_mcp.errors import InvalidRequest, StoreError
from watchman_mcp.retention import apply
from watchman_mcp.rules import RULES, SEVERITIES
from watchman_mcp.schema import LABELS, Label
from watchman_mcp.schema.firewall import FirewallChain
from watchman_mcp.schema.network import DNSServer, NetworkEndpoint, Route, VPNConnection
from watchman_mcp.settings import Alerts as AlertSettings
from watchman_mcp.settings import Settings, load
from watchman_mcp.store.batch import Batch, EventRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import compact
from watchman_mcp.tools.changes import what_changed

ALL = {rule.name: rule for rule in RULES}


class Watch(Story):
    """A machine's history in which alerts are judged after each look; times are minutes before now."""

    rules: Sequence[str] = tuple(ALL)

    def judge(self, at: float) -> bool:
        """Judge at that time. Returns whether alerts changed."""
        return judge(self.store, [ALL[name] for name in self.rules], self.ago(at))[0]

    def see(self, at: float, *nodes: Label, label: type[Label] | None = None) -> None:
        """A collector of the label of these things saw them, and nothing else of it."""
        kind = label or type(nodes[0])
        self.things(at, kind.__name__.lower(), kind, nodes)
        self.judge(at)

    def pass_time(self, start: float, end: float, step: float = 1) -> None:
        """Judge at each step of a stretch in which nobody looks."""
        while start >= end:
            self.judge(start)
            start -= step

    def alerts(self, *columns: str, closed: bool = False) -> list[tuple[Any, ...]]:
        """The open alerts, or those that closed."""
        where = f"gone_at IS {'NOT ' if closed else ''}NULL"
        names = columns or ("rule", "subject")
        rows = self.store.read(f"SELECT {', '.join(names)} FROM Alert WHERE {where} ORDER BY rule, subject")
        return [tuple(row) for row in rows]


@pytest.fixture
def story(store: Store) -> Watch:
    told = Watch(store)
    told.host(3000)
    told.judge(3000)
    return told


def server_at(ip: str) -> DNSServer:
    return DNSServer(ip=ip, source="resolv.conf")


def route(gateway: str = "192.0.2.1", destination: str = "default", **more: Any) -> Route:
    given = {"family": "ipv4", "table": "main", "interface": "eth0", "gateway": gateway, **more}
    return Route(destination=destination, **given)


def tunnel(status: str, peer: str = "gate") -> VPNConnection:
    return VPNConnection(type="wireguard", interface="wg0", peer=peer, status=status)


def port(number: int, exposure: str, address: str = "0.0.0.0", **more: Any) -> NetworkEndpoint:
    return NetworkEndpoint(
        protocol="tcp", address=address, port=number, exposure=exposure, process="nc", **more
    )


def chain(rules: list[str], policy: str = "drop", name: str = "INPUT", hook: str = "input") -> FirewallChain:
    where = {"backend": "nftables", "family": "ip", "table": "filter"}
    return FirewallChain(name=name, hook=hook, policy=policy, rules=rules, **where)


# The rules


def test_other_name_servers_open_one_alert_that_closes_a_day_later(story: Watch) -> None:
    story.see(2000, server_at("192.0.2.53"))
    story.see(1900, server_at("198.51.100.1"), server_at("198.51.100.2"))

    assert story.alerts("rule", "count", "severity") == [("name_servers_changed", 3, "warning")]
    told = "The name servers that this machine asks changed; the newest change: "
    assert story.alerts("message") == [(told + '"192.0.2.53" "vanished"',)]

    story.judge(1900 - 1439)
    assert len(story.alerts()) == 1
    story.judge(1900 - 1440)
    assert story.alerts() == []


def test_an_alert_is_tied_to_the_things_that_it_was_raised_for(store: Store, story: Watch) -> None:
    old, new = server_at("192.0.2.53"), server_at("198.51.100.1")
    story.see(2000, old)
    story.see(1900, new)

    ends = store.read("SELECT end FROM edges WHERE type = 'RAISED_FOR' AND start LIKE 'Alert/alr_%'")
    assert {row["end"] for row in ends} == {old.node_id, new.node_id}


@pytest.mark.parametrize(
    ("before", "after", "opened"),
    [
        (route(), route("192.0.2.254"), 1),
        (route(), None, 1),
        (route(), route(source="192.0.2.9"), 1),
        (route(destination="10.0.0.0/8"), route("192.0.2.254", "10.0.0.0/8"), 0),
        (route(table="100"), route("192.0.2.254", table="100"), 0),
        (route(namespace="blue"), route("192.0.2.254", namespace="blue"), 0),
    ],
)
def test_a_change_of_the_machine_s_own_default_route_opens_an_alert(
    story: Watch, before: Route, after: Route | None, opened: int
) -> None:
    story.see(2000, before)
    story.see(1900, *([after] if after else []), label=Route)

    assert story.alerts() == [("default_route_changed", "default ipv4")] * opened


def test_a_tunnel_that_is_down_opens_an_alert_that_closes_once_it_has_been_connected_for_a_while(
    story: Watch,
) -> None:
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    assert story.alerts() == []
    story.pass_time(1899.5, 1899, 0.5)
    assert story.alerts("rule", "message") == [
        ("vpn_down", 'The tunnel "wireguard wg0 gate" is no longer connected')
    ]

    story.see(1800, tunnel("active"))
    story.pass_time(1799, 1791)
    assert len(story.alerts()) == 1
    story.judge(1790)

    assert story.alerts() == []
    assert story.alerts("rule", "count", closed=True) == [("vpn_down", 1)]


def test_a_tunnel_that_was_taken_away_is_down_and_one_that_is_idle_is_only_noticed(story: Watch) -> None:
    story.see(2000, tunnel("active"), tunnel("active", "idle"))
    story.see(1900, tunnel("stale", "idle"))
    story.judge(1890)

    assert story.alerts("rule", "subject", "severity") == [
        ("vpn_down", "wireguard wg0 gate", "warning"),
        ("vpn_stale", "wireguard wg0 idle", "notice"),
    ]

    story.see(1880, tunnel("down", "idle"))
    story.judge(1879)
    assert ("vpn_down", "wireguard wg0 idle") in story.alerts()


def test_a_tunnel_that_is_back_at_once_opens_nothing(story: Watch) -> None:
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    story.see(1899.5, tunnel("active"))
    story.pass_time(1899, 1890)

    assert story.alerts() + story.alerts(closed=True) == []


def test_a_port_that_comes_to_be_exposed_opens_an_alert_by_who_can_reach_it(story: Watch) -> None:
    known = port(22, "internet")
    story.see(2000, known, port(80, "loopback"))
    story.see(
        1900,
        known,
        port(80, "internet"),
        port(8080, "lan"),
        port(8080, "lan", "::"),
        port(9, "loopback"),
        port(10, "blocked"),
        port(11, "unknown"),
    )
    story.judge(1899)

    assert story.alerts("rule", "subject", "severity", "count") == [
        ("port_open_to_internet", "tcp 80", "critical", 1),
        ("port_open_to_lan", "tcp 8080", "notice", 2),
    ]
    assert story.alerts("message")[0] == (
        'The port "tcp 80" of "nc" can be reached from the internet since a change',
    )


def test_an_exposed_port_s_alert_closes_when_it_is_shut_and_when_it_is_old_news(story: Watch) -> None:
    story.see(20_000, port(22, "internet"))
    story.see(19_000, port(22, "internet"), port(80, "internet"), port(81, "internet"))
    story.judge(18_990)
    story.see(18_900, port(22, "internet"), port(81, "internet"))
    story.judge(18_889)
    assert story.alerts() == [("port_open_to_internet", "tcp 81")]

    story.judge(18_990 - 7 * 1440 + 1)
    assert len(story.alerts()) == 1
    story.judge(18_990 - 7 * 1440)
    assert story.alerts() == []


def test_a_port_that_fewer_can_reach_than_before_opens_nothing(story: Watch) -> None:
    story.see(2000, port(80, "internet"), port(81, "lan"))
    story.see(1900, port(80, "lan"), port(81, "blocked"))
    story.judge(1890)

    assert story.alerts() == []


@pytest.mark.parametrize("after", [[chain([])], []])
def test_a_firewall_that_lost_its_rules_opens_an_alert_until_it_has_some(
    story: Watch, after: list[FirewallChain]
) -> None:
    story.see(2000, chain(["a", "b"]))
    story.see(1900, *after, label=FirewallChain)
    story.judge(1899)
    assert story.alerts("rule", "subject", "severity") == [
        ("firewall_flushed", "nftables ip filter INPUT", "critical")
    ]

    story.see(1800, chain(["a"]))
    story.judge(1790)
    assert story.alerts() == []


def test_a_firewall_that_is_loaded_anew_or_changed_or_never_had_a_rule_opens_nothing(story: Watch) -> None:
    story.see(2000, chain(["a", "b"]), chain([], name="OUTPUT", hook="output"), chain([], name="FORWARD"))
    story.see(1900, label=FirewallChain)
    story.see(1899.8, chain(["a", "b"]))
    story.see(1800, chain(["a"]))
    story.judge(1700)

    assert story.alerts() + story.alerts(closed=True) == []


def test_an_input_policy_of_accept_opens_an_alert_until_it_is_another_one(story: Watch) -> None:
    story.see(2000, chain(["a"]), chain(["a"], name="OUTPUT", hook="output"))
    story.see(1900, chain(["a"], "accept"), chain(["a"], "accept", name="OUTPUT", hook="output"))
    story.judge(1899)
    assert story.alerts() == [("firewall_input_accepts", "nftables ip filter INPUT")]

    story.see(1800, chain(["a"], "drop"))
    story.judge(1790)
    assert story.alerts() == []


def test_a_full_file_system_opens_an_alert_after_two_minutes_and_closes_well_below(story: Watch) -> None:
    def sample(at: float, percent: float) -> None:
        story.sample(at, disks={"/": (10.0, 90.0), "/srv": (percent, 100 - percent)})
        story.judge(at)

    for at, percent in ((2000, 94.9), (1999, 95.0), (1998, 96.0)):
        sample(at, percent)
    assert story.alerts() == []
    sample(1997, 96.0)
    assert story.alerts("subject", "message", "count") == [
        ("/srv", 'The file system "/srv" is at least 95 % full', 1)
    ]

    for at in range(1996, 1990, -1):
        sample(at, 98.0)
    for at in range(1990, 1980, -1):
        sample(at, 93.5)
    assert story.alerts("count") == [(1,)]
    for at in range(1980, 1971, -1):
        sample(at, 92.0)
    sample(1971, 97.0)
    assert story.alerts("count") == [(2,)]
    for at in range(1970, 1960, -1):
        sample(at, 50.0)
    assert len(story.alerts()) == 1
    sample(1960, 50.0)
    assert story.alerts() == []


def test_a_file_system_that_is_full_for_a_moment_opens_nothing(story: Watch) -> None:
    for at, percent in ((2000, 97.0), (1999, 94.0), (1998, 94.0), (1990, 94.0)):
        story.sample(at, disks={"/": (percent, 100 - percent)})
        story.judge(at)

    assert story.alerts() + story.alerts(closed=True) == []


def test_only_a_calm_without_a_break_closes_an_alert(story: Watch) -> None:
    for at, percent in ((2000, 97.0), (1998, 97.0), (1990, 92.0), (1985, 93.5), (1982, 92.0), (1979, 92.0)):
        story.sample(at, disks={"/": (percent, 100 - percent)})
        story.judge(at)
    assert story.alerts() == [("file_system_full", "/")]
    story.judge(1972)

    assert story.alerts() == []


def test_a_full_file_system_that_is_not_mounted_any_more_is_over(story: Watch) -> None:
    for at in (2000, 1998):
        story.sample(at, disks={"/": (1.0, 99.0), "/mnt": (99.0, 1.0)})
        story.judge(at)
    assert len(story.alerts()) == 1

    for at in (1990, 1980):
        story.sample(at, disks={"/": (1.0, 99.0)})
        story.judge(at)
    assert story.alerts() == []


# What must not open one, or ten


def test_what_the_first_look_finds_opens_nothing(story: Watch) -> None:
    story.see(2000, port(22, "internet"))
    story.see(2000, server_at("192.0.2.53"))
    story.see(2000, route())
    story.see(2000, tunnel("down"))
    story.see(2000, chain([], "accept"))
    story.judge(1900)

    assert story.alerts() == []


def test_what_a_log_tells_of_the_past_opens_nothing(store: Store, story: Watch) -> None:
    known = server_at("192.0.2.53")
    story.see(2000, known)
    event = story.event("dns_appeared", known.ip, 90_000, source="systemd-resolved")
    row = EventRow(event.node_id, dict(event.__dict__), "dns", known.node_id)
    store.write(Batch(at=story.ago(1900), events=[row]))
    story.judge(1890)

    assert story.alerts() == []


def test_a_store_with_a_history_is_not_judged_for_what_was_before(store: Store) -> None:
    story = Watch(store)
    story.host(3000)
    for at, number in ((2000, 1), (1900, 2)):
        story.things(at, "dns", DNSServer, [server_at(f"192.0.2.{number}")])

    story.judge(1800)
    story.judge(1700)

    assert story.alerts() == []


def test_a_rule_that_is_new_begins_with_what_is_new(story: Watch) -> None:
    story.see(2000, server_at("192.0.2.53"))
    story.rules = ["vpn_down"]
    story.see(1900, server_at("192.0.2.54"))
    story.rules = tuple(ALL)
    story.judge(1800)
    assert story.alerts() == []

    story.see(1700, server_at("192.0.2.55"))
    assert len(story.alerts()) == 1


def test_a_tunnel_that_flaps_is_one_alert_with_a_count(store: Store, story: Watch) -> None:
    story.see(2000, tunnel("active"))
    for round_ in range(10):
        story.see(1900 - 10 * round_, tunnel("down"))
        story.judge(1898 - 10 * round_)
        story.see(1895 - 10 * round_, tunnel("active"))
    story.pass_time(1804, 1780)

    assert story.alerts() == []
    assert story.alerts("count", "opened_at", closed=True) == [
        (10, f"{story.ago(1898):%Y-%m-%dT%H:%M:%S.%fZ}")
    ]
    kinds = store.read("SELECT type FROM Event WHERE type LIKE 'alert%' ORDER BY seq")
    assert [row["type"] for row in kinds] == ["alert_opened", "alert_closed"]


def test_judging_again_without_news_changes_and_writes_nothing(store: Store, story: Watch) -> None:
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    story.judge(1890)
    newest = store.newest

    story.pass_time(1889, 1800)

    assert store.newest == newest


def test_events_that_no_rule_is_about_are_gone_through_once_only(store: Store, story: Watch) -> None:
    story.judge(100)
    events = [story.event("package_update", f"p{n}", 50) for n in range(BEHIND)]
    rows = [EventRow(one.node_id, dict(one.__dict__), "apt") for one in events]
    store.write(Batch(at=story.ago(50), events=rows))

    story.judge(40)

    assert Memory.of(store).seq >= BEHIND


def test_many_subjects_of_one_rule_share_an_alert_from_some_number_on(story: Watch) -> None:
    story.see(2000, port(22, "internet"))
    story.see(1900, port(22, "internet"), *[port(1000 + n, "internet") for n in range(MOST + 30)])
    story.judge(1890)

    found = story.alerts("subject", "count")
    assert len(found) == MOST + 1
    assert dict(found)["others"] == 30


def test_a_stranger_s_word_cannot_end_its_field_or_fill_the_message(story: Watch) -> None:
    story.see(2000, tunnel("active", '" is fine {rule}'), tunnel("active", "x" * 500))
    story.see(1900, tunnel("down", '" is fine {rule}'), tunnel("down", "x" * 500))
    story.judge(1890)

    quoted, long = (message for (message,) in story.alerts("message"))
    assert quoted == 'The tunnel "wireguard wg0 \' is fine {rule}" is no longer connected'
    assert len(long) < 200


# Restarts, clocks, settings, retention


def test_a_restart_forgets_neither_what_waits_nor_what_is_open(tmp_path: Path) -> None:
    def opened() -> Watch:
        return Watch(Store(tmp_path), now)

    now = datetime.now(UTC).replace(microsecond=0)
    story = opened()
    story.host(3000)
    story.judge(3000)
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    story.store.close()

    story = opened()
    story.judge(1899)
    assert story.alerts("count") == [(1,)]
    story.things(1890, "vpnconnection", VPNConnection, [tunnel("active")])
    story.store.close()  # before anything was judged of that look

    story = opened()
    story.judge(1889)
    story.store.close()

    story = opened()
    story.judge(1880)
    assert len(story.alerts()) == 1
    story.judge(1879)
    assert story.alerts() == []
    story.store.close()


def test_events_count_once_though_they_could_not_be_written_about_at_first(
    store: Store, story: Watch
) -> None:
    story.see(2000, server_at("192.0.2.53"))
    story.things(1900, "dnsserver", DNSServer, [server_at("192.0.2.54")])
    full = "CREATE TRIGGER full BEFORE INSERT ON Event BEGIN SELECT raise(ABORT, 'full'); END"
    store.change(lambda db: db.execute(full))

    with pytest.raises(StoreError):
        story.judge(1890)
    store.change(lambda db: db.execute("DROP TRIGGER full"))
    assert story.alerts() == []
    story.judge(1880)
    story.judge(1870)

    assert story.alerts("count") == [(2,)]


@pytest.mark.parametrize("step", [-500_000, 500_000])
def test_a_clock_that_is_set_leaves_no_alert_waiting_or_open_for_good(story: Watch, step: float) -> None:
    story.see(2000, tunnel("active"))
    story.see(1999, server_at("192.0.2.53"))
    story.see(1900, server_at("192.0.2.54"))
    story.see(1900, tunnel("down"))  # waits, and the clock is set

    story.judge(1899.9 + step)
    story.judge(1898 + step)
    assert ("vpn_down", "wireguard wg0 gate") in story.alerts()
    story.see(1890 + step, tunnel("active"))
    story.judge(1879 + step)
    story.judge(1879 - 1440 + step)

    assert story.alerts() == []


def test_a_clock_that_is_set_back_while_all_is_well_only_begins_the_calm_anew(story: Watch) -> None:
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    story.judge(1898)
    story.see(1890, tunnel("active"))

    story.judge(50_000)
    story.judge(49_991)
    assert len(story.alerts()) == 1
    story.judge(49_990)

    assert story.alerts() == []


def test_a_rule_that_is_turned_off_closes_its_alerts(story: Watch) -> None:
    story.see(2000, server_at("192.0.2.53"))
    story.see(1900, server_at("192.0.2.54"))
    assert len(story.alerts()) == 1

    story.rules = ()
    assert story.judge(1800)

    assert story.alerts() == []


def test_settings_turn_off_all_alerts_or_rules_by_name(tmp_path: Path) -> None:
    async def publish(_labels: frozenset[str]) -> None:
        """Nobody listens."""

    def on(**values: Any) -> set[str]:
        store = Store(None)
        found = {rule.name for rule in Alerts(store, AlertSettings(**values), publish).rules}
        store.close()
        return found

    assert on() == set(ALL)
    assert on(enabled=False) == set()
    assert on(off=("vpn_stale", "port_open_to_lan")) == set(ALL) - {"vpn_stale", "port_open_to_lan"}

    config = tmp_path / "config.toml"
    config.write_text('[alerts]\noff = ["vpn_stal"]\n')
    with pytest.raises(InvalidRequest, match=r"alerts\.off\[0\]: no rule is called 'vpn_stal'.*vpn_stale"):
        load(str(config))


def test_a_closed_alert_is_forgotten_with_its_events_and_an_open_one_is_kept(
    store: Store, story: Watch
) -> None:
    story.see(2000, server_at("192.0.2.53"))
    story.see(1900, server_at("192.0.2.54"))
    story.judge(100)
    story.see(50, tunnel("active"))
    story.see(40, tunnel("down"))
    story.judge(30)
    assert (len(story.alerts()), len(story.alerts(closed=True))) == (1, 1)

    apply(store, Settings(), story.now + timedelta(days=300))
    assert len(story.alerts(closed=True)) == 1
    apply(store, Settings(), story.now + timedelta(days=500))
    apply(store, Settings(), story.now + timedelta(days=500))

    assert story.alerts() == [("vpn_down", "wireguard wg0 gate")]
    assert story.alerts(closed=True) == []


@pytest.mark.parametrize("rule", RULES, ids=list(ALL))
def test_a_rule_rests_on_labels_of_the_graph_and_its_queries_can_be_run(store: Store, rule: Any) -> None:
    assert rule.labels <= LABELS.keys()
    assert rule.severity in SEVERITIES
    assert rule.text.startswith("The ")
    store.read(rule.raised, {} if rule.state else {"above": 0, "upto": 1})
    if rule.over:
        store.read(rule.over, {"subject": "x"})
    assert len(ALL) == len(RULES)


# What people are told


def told_to(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(what_changed(store, **arguments))


def test_alerts_are_changes_of_their_own_kind_with_their_ids(store: Store, story: Watch) -> None:
    story.see(100, tunnel("active"))
    story.see(90, tunnel("down"))
    story.judge(80)
    story.see(60, tunnel("active"))
    story.judge(40)

    items = told_to(store, kind="alert")["items"]

    key = story.alerts("key", closed=True)[0][0]
    what = 'The tunnel "wireguard wg0 gate" is no longer connected'
    common = {"subject": "wireguard wg0 gate", "what": what, "source": "watchman", "alert": key}
    assert items == [
        {"ts": story.shown(40), "type": "alert_closed", **common},
        {"ts": story.shown(80), "type": "alert_opened", **common},
    ]


def test_alerts_of_one_minute_are_a_line_each(store: Store, story: Watch) -> None:
    story.see(100, tunnel("active"), tunnel("active", "b"))
    story.see(90, tunnel("down"), tunnel("down", "b"))
    story.judge(80)

    assert len(told_to(store, kind="alert")["items"]) == 2


def test_causes_of_an_alert_are_sought_before_it_and_beginning_with_its_things(
    store: Store, story: Watch
) -> None:
    story.look(2000, [package("vim")])
    story.see(2000, tunnel("active"))
    story.see(1900, tunnel("down"))
    story.look(
        1895, [package("vim"), package("nano")], records=[story.event("package_install", "nano", 1896)]
    )
    story.judge(1890)
    story.look(1880, [package("vim")], records=[story.event("package_remove", "nano", 1885)])
    key = story.alerts("key")[0][0]

    answer = told_to(store, before=key)

    assert [(item["type"], item["lead"]) for item in answer["items"]] == [
        ("vpn_disconnected", "10 min before; concerns the subject"),
        ("package_install", "6 min before"),
    ]
    assert answer["matched"] == "alert: wireguard wg0 gate"
    assert told_to(store, before=f"Alert/{key}")["items"] == answer["items"]


def test_an_alert_that_is_not_known_has_no_causes(store: Store, story: Watch) -> None:
    with pytest.raises(InvalidRequest, match="no alert of this id"):
        told_to(store, before="alr_0000000000000000")


# The daemon's part


@pytest.mark.anyio
async def test_what_keeps_alerts_from_being_judged_is_told_until_they_are_again(
    store: Store, tmp_path: Path
) -> None:
    async with alerting(store, tmp_path) as server:
        store.change(lambda db: db.execute("ALTER TABLE NetworkEndpoint RENAME TO away"))
        await server.publish(frozenset({"Route"}))
        with anyio.fail_after(10):
            while not store.notes:
                await anyio.sleep(0.02)
        (note,) = store.notes
        store.change(lambda db: db.execute("ALTER TABLE away RENAME TO NetworkEndpoint"))
        await server.publish(frozenset({"Route"}))
        with anyio.fail_after(10):
            while store.notes:
                await anyio.sleep(0.02)

    assert note.startswith("Alerts are not judged")


@asynccontextmanager
async def alerting(store: Store, root: Path, *collectors: Collector) -> AsyncIterator[Any]:
    """A server whose runner tells alerts, and whose alerts tell sessions, as a daemon wires them."""
    async with serving(store, root, *collectors) as server, anyio.create_task_group() as tasks:

        async def publish(labels: frozenset[str]) -> None:
            for one in (alerts.heard, server.changed):
                await one(labels)

        alerts = Alerts(store, AlertSettings(), publish)
        server.publish = server.runner._publish = publish
        tasks.start_soon(alerts.run)
        yield server
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_who_subscribes_to_alerts_hears_of_one_that_opens_and_of_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    servers = ["192.0.2.53"]

    def collect(_look: Look) -> Iterator[Seen]:
        yield from [server_at(ip) for ip in servers]

    names = Collector(collect, (DNSServer,), minutes(60), name="dns")
    async with (
        alerting(store, tmp_path, names) as server,
        Client(server.mcp, mode="auto", cache=None) as client,
    ):
        await server.runner.first_look(["DNSServer"])
        with anyio.fail_after(10):
            while not store.read("SELECT 1 FROM _collector WHERE name = 'watchman:alerts'"):
                await anyio.sleep(0.02)
        async with client.listen(resource_subscriptions=["watchman://alerts"]) as events:
            servers[:] = ["192.0.2.54"]
            await server.runner.scan(["dns"])
            with anyio.fail_after(10):
                event = await anext(events)
            text = (await client.read_resource("watchman://alerts")).contents[0].text

    assert event.uri == "watchman://alerts"
    assert "alert_opened" in text
