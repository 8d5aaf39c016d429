"""The readers of which files, programs and units belong to which package."""

from tests.collectors.test_flatpak import COMMIT
from tests.collectors.test_owners import STUB, specification
from tests.fuzz.reading import Reader, cases, of_text, placed, text_of
from tests.rigs.rpm import Rpm, header_of
from watchman_mcp.errors import Broken
from watchman_mcp.machine import (
    apk_indexes,
    brew_kegs,
    distribution_files,
    dpkg_files,
    flatpak,
    gems,
    nix,
    pacman_repositories,
    r_packages,
    rpm_files,
    rpm_headers,
    snap,
)

_HEADER = header_of(
    Rpm(
        "app",
        "1:2.0-1",
        files=("/usr/bin/app", "/usr/lib/systemd/system/app.service"),
        configs=("/etc/app/a.conf",),
    )
)


_FILES = (
    b"N 'web' '1' '2.0' '1' 'noarch'\nD '/usr/bin/'\nF 0 0 'web'\nF 0 0 'it'\\''s'\n"
    b"N 'app' (none) '1' '1' 'x'\nD '/usr/lib/systemd/system/'\nD '/etc/app/'\n"
    b"F 0 0 'app.service'\nF 17 1 'a.conf'\nF 2 1 'b'\n"
    b"N 'empty' '0' '1' '1' (none)\nD (none)\nF (none) (none) (none)\n"
)


def _installed(content: bytes) -> object:
    configs = apk_indexes.configurations(text_of(content))
    assert all(path.startswith("/etc/") for paths in configs.values() for path in paths)
    for name, paths in [*configs.items()][:3]:
        owners = placed(content, lambda files: list(apk_indexes.owners(files, "/db", paths[:1])), "/db")  # noqa: B023 - called at once
        assert name in owners  # type: ignore[operator] # what is placed is told as object
    return configs


def _paths_in(content: bytes) -> object:
    found = [distribution_files.paths_in(text_of(content), "/site", wheel=wheel) for wheel in (True, False)]
    assert all(path.startswith("/") and ".." not in path.split("/") for some in found for path in some)
    return found


def _executables(content: bytes) -> object:
    found = gems.executables(text_of(content))
    assert all(name and "\n" not in name for name in found)
    return found


def _stub(content: bytes) -> object:
    name = gems.stub_of(text_of(content), "tool")
    assert name is None or (name and "\n" not in name)
    return name


def _lists(content: bytes) -> object:
    found = placed(content, lambda files: pacman_repositories.brought(files, "/local"), "/local/a-1-1/files")
    assert isinstance(found, dict)
    assert all(path.startswith("/") for _, kept in found.values() for path in kept)
    return found


def _description(content: bytes) -> object:
    package = r_packages.read_description(content)
    if package:
        assert r_packages.is_name(package.name) and package.version
        assert package.name not in package.needs
        assert all(r_packages.is_name(name) or len(name) > 200 for name in package.needs)
    return package


def _brought(content: bytes) -> object:
    found = list(rpm_files.read_brought(text_of(content)))
    assert all(one.services or one.configs for one in found)
    assert all(path.startswith("/etc/") for one in found for path in one.configs)
    try:
        list(rpm_files.read_brought(text_of(content) + "?\n"))
    except Broken:
        return found
    raise AssertionError("a line without sense was passed over in silence")


def _entries(content: bytes) -> object:
    name, version, arch, files = rpm_headers.read_entries(content)
    return name, version, arch, list(files)


_STUBS = (STUB.encode(), STUB.replace("  load", "load").encode())


READERS = (
    Reader(
        "dpkg_files.conffiles",
        of_text(dpkg_files.conffiles),
        (b"/etc/a b 0123 obsolete\n/etc/c 4567\n/etc/d newconffile\n/etc/e 89 remove-on-upgrade\n",),
    ),
    Reader("apk_indexes.configurations", _installed, cases("apk", "*/installed"), share=0.3),
    Reader(
        "brew_kegs.chosen",
        lambda c: brew_kegs.chosen(text_of(c).split("\n"), None),
        (b"1.9\n1.10\nHEAD-a", b"1_2\n1"),
    ),
    Reader("brew_kegs.placed_at", of_text(brew_kegs.placed_at), (b"/opt/homebrew/Cellar/wget/1.0/bin/wget",)),
    Reader(
        "distribution_files.paths_in",
        _paths_in,
        (b'one/__init__.py,sha256=x,10\r\n../../../bin/one,,\n"one/a,""b.py",,\n/etc/x,,\n',),
    ),
    Reader(
        "flatpak.deployed_at",
        of_text(flatpak.deployed_at),
        (f"/srv/f/app/a.b/x86_64/stable/{COMMIT}/files/x".encode(),),
    ),
    Reader(
        "gems.executables",
        _executables,
        (*cases("gem", "*.gemspec"), specification("rig", "1.0", programs='"a".freeze, "b"').encode()),
    ),
    Reader("gems.stub_of", _stub, _STUBS),
    Reader(
        "nix.stored_at", of_text(nix.stored_at), (b"/nix/store/" + b"0a" * 16 + b"-hello-2.12.1/bin/hello",)
    ),
    Reader("pacman_repositories.brought", _lists, cases("pacman", "*/files"), share=0.3),
    Reader(
        "r_packages.read_description",
        _description,
        cases("r", "*/DESCRIPTION"),
        with_=("r_packages.is_name",),
    ),
    Reader("rpm_files.read_brought", _brought, (_FILES,), with_=("rpm.plain",)),
    Reader("rpm_headers.read_entries", _entries, (_HEADER,), "binary", refuses=(ValueError,)),
    Reader(
        "snap.snap_of_unit",
        of_text(snap.snap_of_unit),
        (b"snap.lxd.daemon.unix.socket", b"snap.a-b_c.d.service"),
    ),
    Reader(
        "snap.snap_of_file", lambda c: snap.snap_of_file(text_of(c), "/snap"), (b"/snap/core/x1/usr/bin/a",)
    ),
)
