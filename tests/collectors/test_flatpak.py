"""What flatpak leaves beside its deployments: files as it writes them, and others."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.collectors.test_cases import graph, look_at, plant
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.flatpak import masked, read_deploy
from watchman_mcp.machine.flatpak_summaries import lists

COMMIT = "3691af0f823fff5cf4cbed3953919ea7195061f521ea2a5bdc6d3d9b1270ce08"


def variant(text: str) -> bytes:
    return text.encode() + b"\0\0s"


def deploy(origin: str, commit: str, size: int, values: Mapping[str, bytes]) -> bytes:
    """A description as GLib serializes `(ssasta{sv})`, without subpaths; values carry their own types."""

    def padded(data: bytes) -> bytes:
        return data + b"\0" * (-len(data) % 8)

    def framed(data: bytes, ends: list[int]) -> bytes:
        width = next(w for w in (1, 2, 4) if len(data) + w * len(ends) < 1 << 8 * w)
        return data + b"".join(end.to_bytes(width, "little") for end in ends)

    array, ends = b"", []
    for name, value in values.items():
        key = name.encode() + b"\0"
        array = padded(array) + framed(padded(key) + value, [len(key)])
        ends.append(len(array))
    first = len(origin) + 1
    second = first + len(commit) + 1
    head = padded(origin.encode() + b"\0" + commit.encode() + b"\0") + size.to_bytes(8, "big")
    return framed(head + framed(array, ends), [second, second, first])


def summary(*references: str) -> bytes:
    """A list as GLib serializes `(a(s(taya{sv}))a{sv})`, without more about a reference."""

    def framed(data: bytes, *ends: int) -> bytes:
        width = next(w for w in (1, 2, 4) if len(data) + w * len(ends) < 1 << 8 * w)
        return data + b"".join(end.to_bytes(width, "little") for end in ends)

    array, ends = b"", []
    for name in references:
        key = name.encode() + b"\0"
        member = framed(
            key + bytes(-len(key) % 8) + framed((4096).to_bytes(8, "big") + bytes.fromhex(COMMIT), 40),
            len(key),
        )
        array += bytes(-len(array) % 8) + member
        ends.append(len(array))
    listed = framed(array, *ends)
    return framed(listed, len(listed))


DEPLOY = deploy(
    "flathub",
    COMMIT,
    4096,
    {
        "appdata-name": variant("App"),
        "appdata-version": variant("1.0"),
        "appdata-summary": variant("An application " * 30),
        "deploy-version": b"\4\0\0\0\0i",
        "timestamp": (1_700_000_000).to_bytes(8, "little") + b"\0t",
    },
)


def installed(installation: str, text: str = DEPLOY.decode("latin-1")) -> dict[str, str | None]:
    place = f"{installation}/app/org.example.App/x86_64/stable/{COMMIT}"
    raw = text.encode("latin-1").decode("utf-8", "surrogateescape")
    return {
        f"{place}/deploy": raw,
        f"{place}/metadata": "[Application]\nruntime=org.example.Platform/x86_64/1\n",
    }


def links(installation: str) -> dict[str, str]:
    return {f"{installation}/app/org.example.App/x86_64/stable/active": COMMIT}


def test_a_deployment_says_where_it_is_from_and_what_it_is() -> None:
    found = read_deploy(DEPLOY)

    assert found[:6] == ("flathub", COMMIT, 4096, "App", "1.0", "An application " * 30)
    assert found.committed_at == 1_700_000_000
    assert read_deploy(deploy("", "", 0, {})).commit == ""


def test_installations_of_the_machine_its_configuration_and_its_people_are_found(tmp_path: Path) -> None:
    places = ("/var/lib/flatpak", "/srv/flatpak", "/home/ana/.local/share/flatpak")
    files: dict[str, str | None] = {
        "/etc/passwd": "ana:x:1000:1000::/home/ana:/bin/bash\n",
        "/etc/flatpak/installations.d/srv.conf": '[Installation "srv"]\nPath=/srv/flatpak\n',
        "/var/lib/flatpak/repo/config": "[core]\nxa.masked=org.example.A*\n",
        f"/var/lib/flatpak/app/org.example.Next/x86_64/stable/{COMMIT}/files/x": "",
    }
    for place in places:
        files |= installed(place)
    plant(tmp_path, files, {name: to for place in places for name, to in links(place).items()})

    found = graph("flatpak", look_at(tmp_path, "flatpak"))

    assert {(node["scope"], node["version"], node["held"]) for node in found["nodes"]} == {
        ("flatpak:/var/lib/flatpak", f"1.0 ({COMMIT[:12]})", True),
        ("flatpak:/srv/flatpak", f"1.0 ({COMMIT[:12]})", False),
        ("flatpak:/home/ana/.local/share/flatpak", f"1.0 ({COMMIT[:12]})", False),
    }
    assert "unobserved" not in found


def test_a_deployment_that_cannot_be_read_is_known_by_its_commit(tmp_path: Path) -> None:
    plant(tmp_path, installed("/var/lib/flatpak", "damaged"), links("/var/lib/flatpak"))

    found = graph("flatpak", look_at(tmp_path, "flatpak"))

    assert [(node["name"], node["version"]) for node in found["nodes"]] == [
        ("org.example.App", f"({COMMIT[:12]})")
    ]
    assert found["unobserved"] == [f"flatpak:/var/lib/flatpak/app/org.example.App/x86_64/stable/{COMMIT}"]


def test_an_older_build_that_comes_while_the_newer_one_goes_is_a_downgrade(tmp_path: Path) -> None:
    newer = "b" * 64
    place = tmp_path / "var/lib/flatpak/app/org.example.App/x86_64/stable"
    marks: dict[str, object] = {}
    builds = ((newer, 1_800_000_000), (newer, None), (COMMIT, 1_700_000_000))
    told = []
    for commit, timestamp in builds:  # in between the newer one has no description any more
        (place / commit).mkdir(parents=True, exist_ok=True)
        description = place / commit / "deploy"
        if timestamp:
            values = {"timestamp": timestamp.to_bytes(8, "little") + b"\0t"}
            description.write_bytes(deploy("flathub", commit, 4096, values))
        else:
            description.unlink()
        (place / "active").unlink(missing_ok=True)
        (place / "active").symlink_to(commit)
        found = graph("flatpak", look_at(tmp_path, "flatpak", marks=marks))
        told.append([one["type"] for one in found.get("records", ())])

    assert told == [[], [], ["package_downgrade"]]


def test_a_machine_without_an_installation_has_no_flatpak(tmp_path: Path) -> None:
    assert graph("flatpak", look_at(tmp_path, "flatpak")) == {"raises": "Absent"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("org.example.App", True),
        ("org.example.*", True),
        ("app/org.example.App/*/stable", True),
        ("org.example.App//stable", True),
        ("org.example.App/aarch64", False),
        ("runtime/org.example.App", False),
        ("org.example", False),
    ],
)
def test_a_mask_means_what_its_parts_mean(pattern: str, expected: bool) -> None:
    assert masked("app/org.example.App/x86_64/stable", (pattern,)) is expected


def test_a_list_counts_only_if_the_index_of_its_remote_names_it_now(tmp_path: Path) -> None:
    here, older, other = (f"{digit}" * 64 for digit in "abc")
    # Of an architecture the present list comes first, then those before it.
    index = b"x86_64\0\0" + bytes.fromhex(here) + bytes.fromhex(older) + b"aarch64\0" + bytes.fromhex(other)
    for name, content in {
        "hub.idx": index,
        f"hub-x86_64-{here}.sub": b"",
        f"hub-x86_64-{older}.sub": b"",
        f"hub-aarch64-{here}.sub": b"",
        f"hub-aarch64-{other}.sub": b"",
        f"none-x86_64-{here}.sub": b"",
        f"hub-\udcff-{here}.sub": b"",
        "plain": b"",
        "plain.sig": b"",
    }.items():
        (tmp_path / name).write_bytes(content)

    found = lists(Files(tmp_path), "/")

    assert found == {
        "hub": [f"//hub-aarch64-{other}.sub", f"//hub-x86_64-{here}.sub"],
        "plain": ["//plain"],
    }


def test_installations_in_homes_are_watched(tmp_path: Path) -> None:
    place = "/home/ana/.local/share/flatpak"
    plant(tmp_path, {**installed(place), "/etc/passwd": "ana:x:1:1::/home/ana:/bin/sh\n"})
    look = look_at(tmp_path, "flatpak")

    graph("flatpak", look)

    assert {f"{place}/.changed", f"{place}/repo/tmp/cache/summaries"} <= look.watched
