"""The readers of what languages' managers keep, of versions, of packed files and of the machine itself."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from tests.collectors.test_go import BUILT, FETCHED, block, elf
from tests.fuzz.reading import ZONE, Reader, cases, of_log, of_text, text_of
from watchman_mcp.machine import (
    archives,
    cargo,
    conda,
    conda_history,
    distributions,
    eggs,
    executables,
    gems,
    go_programs,
    logs,
    metrics,
    mounts,
    node,
    unit_files,
    versions,
)
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.logs import Line, Mark
from watchman_mcp.machine.versions import brew as brew_versions
from watchman_mcp.machine.versions import gem as gem_versions

_MARK = Mark(1, 2, 3, "ab", 64, Mark(4, 5, 6, "cd", 64)).to_json().encode()
_MOUNTS = (
    b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    b"30 22 0:25 / /mnt/a\\040b rw - nfs4 host:/x rw\n31 22 7:0 / /snap/a/1 ro - squashfs /dev/loop0 ro\n"
)
_UNIT = b"[Unit]\nDescription=a\n\n[Service]\nExecStart=/bin/a\n\n[Install]\n# none\nWantedBy=a.target\n"
_VERSIONS = (
    b"1.0.0\n1.0",
    b"1:2.3-4~rc1+b1\n2.3-4",
    b"v1.2.3-rc.1\nv1.2.3",
    b"go1.22\ngo1.22rc1",
    b"1.0_alpha2-r1\n1.0",
    b"2.1 (9)\n1.0 (x10)",
    b"1.0.post1\n1!1.0.dev0+a.1",
    b"1.0_2\nHEAD-abc",
    b"3.0.0.pre1\n3.0.0",
    b"1.0.1_\n1.0.1a",
    b"1.0^git1-1\n1.0~-1",
    b"1.7-2\n1.7",
    b"1\n1",
)


def _of_stream(read: Callable[[Any], object]) -> Callable[[bytes], object]:
    """A reader of files is given one that lives in memory."""

    def on(content: bytes) -> object:
        with io.FileIO(os.memfd_create("input"), "w+") as stream:
            stream.write(content)
            stream.seek(0)
            return read(stream)

    return on


def _inflated(suffix: str) -> Callable[[bytes], object]:
    return _of_stream(lambda stream: [len(piece) for piece in archives.inflated(stream, suffix, "/log")])


def _build(stream: Any) -> object:
    build = go_programs.read_build(stream, "/tool")
    assert build is None or build.package
    return build


def _image(stream: Any) -> object:
    image = executables.image_of(stream)
    return image and image.read(image.begin, 64)


def _crates(content: bytes) -> object:
    crates, unreadable = cargo.read_crates(text_of(content))
    assert all(crate.name and crate.version and "/" not in crate.name for crate in crates)
    assert unreadable >= 0
    return crates


def _crates2(content: bytes) -> object:
    crates, unreadable = cargo.read_crates2(text_of(content))
    assert len(crates) + unreadable == len(json.loads(text_of(content))["installs"])
    return crates


def _record(content: bytes) -> object:
    found = conda.read_record(content)
    assert found.name and found.version and "/" not in found.name
    return found


def _conda_runs(lines: Iterable[Line]) -> tuple[list[Any], int]:
    runs, unreadable = conda_history.read_history(lines, Clock(ZONE))
    for change in (change for run in runs for change in conda_history.changes(run)):
        assert change.version and conda.named(f"{change.name}-{change.version}-0")
    return [(run.at, run.command, run.come, run.gone) for run in runs], unreadable


def _metadata(content: bytes) -> object:
    name, version, summary, needs = distributions.read_metadata(content)
    assert name and "\n" not in name
    for need in needs[:5]:
        distributions.needed(need, "3.12.1")
    return name, version, summary, needs


def _needed(content: bytes) -> object:
    for python in ("3.12.1", "3", ""):
        distributions.needed(text_of(content), python)
    return distributions.needed(text_of(content), "3.13.0rc1+")


def _specification(content: bytes) -> object:
    name, _, text = text_of(content).partition("\n")
    gem = gems.read_specification(text, name)
    assert gem.name and gem.version and gem.platform
    assert "/" not in gem.name + gem.version + gem.platform
    for wishes in gem.needs.values():
        gems.admits(wishes, gem.version)
    return gem


def _manifest(content: bytes) -> object:
    manifest = node.read_manifest(content)
    assert all(node.is_name(name) for name in manifest.needs)
    assert manifest.name is None or ("/.." not in f"/{manifest.name}" and manifest.name != ".")
    return manifest


def _inside(content: bytes) -> object:
    target = text_of(content).replace("\0", "")
    path = node.inside("/top/modules", target, "/top")
    expected = re.sub("/+", "/", os.path.normpath(os.path.join("/top/modules", target)))
    assert path == (expected if expected.startswith("/top/") else None)
    return path


def _prefix(content: bytes) -> object:
    prefix = node.prefix_of(text_of(content), "/home/a")
    assert prefix is None or (prefix.startswith("/") and ".." not in prefix.split("/"))
    return prefix


def _bins(content: bytes) -> object:
    found = go_programs.bin_directories(text_of(content), "/home/a")
    assert all(path.startswith("/") for path in found)
    return found


def _mark(content: bytes) -> object:
    mark = logs.Mark.from_json(text_of(content))
    assert logs.Mark.from_json(mark.to_json()) == mark
    return mark


def _mounts(content: bytes) -> object:
    found = mounts.read_mounts(text_of(content))
    asked, behind = mounts.local_mounts(found)
    assert len(asked) + len(behind) <= len(found)
    return found


def _compared(rule: ModuleType) -> Callable[[bytes], object]:
    def on(content: bytes) -> object:
        one, _, other = text_of(content).partition("\n")
        order = rule.compare(one, other)
        assert order in (-1, 0, 1) and rule.compare(one, one) == 0
        # Homebrew itself takes 3.0.0 for 3.00.pre1, and 3.00.pre1 for older than 3.0.0.
        assert rule is brew_versions or order == -rule.compare(other, one)
        return order

    return on


def _rules() -> list[tuple[str, ModuleType]]:
    names = [module.name for module in iter_modules(versions.__path__)]
    rules = {name: import_module(f"{versions.__name__}.{name}") for name in names}
    return [(name, rule) for name, rule in rules.items() if rule.compare.__module__ == rule.__name__]


def _satisfies(content: bytes) -> object:
    version, _, wish = text_of(content).partition("\n")
    return gem_versions.satisfies(version, wish)


def _any_versions(content: bytes) -> object:
    scheme, _, rest = text_of(content).partition("\n")
    one, _, other = rest.partition("\n")
    return versions.compare_versions(scheme if scheme.isidentifier() else None, one, other)


_PROGRAMS = (elf(block(FETCHED)), elf(b"data before " * 8 + block(BUILT), named=False))
_STARTS = tuple(
    start + _PROGRAMS[0][4:700] for start in (b"MZ\0\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
)
_LOG = b"2026-01-02 10:00:00 a line\n" * 40
_SPECIFICATIONS = tuple(b"rack-3.0.0.gemspec\n" + text for text in cases("gem", "*.gemspec"))

READERS = (
    Reader("archives.inflated", _inflated(".gz"), (gzip.compress(_LOG, mtime=0) * 2,), "binary", share=0.5),
    Reader("archives.inflated/xz", _inflated(".xz"), (lzma.compress(_LOG),), "binary", share=0.2),
    Reader("archives.inflated/bz2", _inflated(".bz2"), (bz2.compress(_LOG),), "binary", share=0.2),
    Reader(
        "executables.image_of",
        _of_stream(_image),
        (*_PROGRAMS, *_STARTS),
        "binary",
        share=0.5,
        with_=("executables.Image.read",),
    ),
    Reader("go_programs.read_build", _of_stream(_build), (*_PROGRAMS, *_STARTS), "binary", share=0.5),
    Reader("go_programs.version_of", of_text(go_programs.version_of), cases("go", "*/VERSION")),
    Reader(
        "go_programs.bin_directories", _bins, (b"GOPATH=/srv/go:$HOME/go\nGOBIN='/opt/bin'\nGOFLAGS=-a=b\n",)
    ),
    Reader("cargo.read_crates", _crates, cases("cargo", "*.crates.toml")),
    Reader("cargo.read_crates2", _crates2, cases("cargo", "*.crates2.json"), "json"),
    Reader("conda.read_record", _record, cases("conda", "*-meta/*.json"), "json"),
    Reader("conda.named", of_text(conda.named), (b"r-base-4.3.1-h1_0", b"a-1-0")),
    Reader(
        "conda_history.read_history",
        of_log(_conda_runs, "?"),
        cases("conda", "*/history"),
        with_=("conda_history.changes",),
    ),
    Reader("distributions.read_metadata", _metadata, cases("python", "*/METADATA", "*/PKG-INFO")),
    Reader(
        "distributions.read_origin", distributions.read_origin, cases("python", "*/direct_url.json"), "json"
    ),
    Reader("eggs.named", of_text(eggs.named), (b"a_b-1.0-py2.7-macosx-10.10-x86_64.egg", b"a.egg-link")),
    Reader("distributions.is_name", of_text(distributions.is_name), (b"zope.interface", b"a_b-c")),
    Reader(
        "distributions.needed",
        _needed,
        (
            b'a[b,c]>=1.0,!=2.*; python_version < "3.13" and extra == "x"',
            b"a @ https://example.org/a.whl",
            b'a; python_full_version ~= "3.12.0" or platform_release >= "6.1" and sys_platform != "win32"',
            b'a; "x" in extras or dependency_groups == "y"',
            b'a; implementation_version in "3.12" and os_name not in "nt" and platform_version > "1"',
        ),
        share=0.6,
    ),
    Reader("gems.read_specification", _specification, _SPECIFICATIONS, with_=("gems.admits",)),
    Reader("gems.gem_of", of_text(gems.gem_of), (b"nokogiri-1.16.0-x86_64-linux.gemspec", b"a-b-1.gemspec")),
    Reader("node.read_manifest", _manifest, cases("npm", "*/package.json"), "json", with_=("node.is_name",)),
    Reader("node.inside", _inside, (b"../../x/../modules/a", b"/top/./b//c", b"..")),
    Reader(
        "node.prefix_of",
        _prefix,
        (b"registry=x\nprefix=${HOME}/.npm\n", b"prefix = '~/a'\n", b"prefix=/opt/../x\n"),
    ),
    Reader("logs.Mark.from_json", _mark, (_MARK,), "json"),
    Reader(
        "metrics.read_stat",
        metrics.read_stat,
        (b"7 (a (b) c) S 1 7 7 0 -1 4 1 2 3 4 50 60 0 0 20 0 1 0 123 99 45 0 1",),
        refuses=(ValueError, IndexError),
    ),
    Reader("mounts.read_mounts", _mounts, (_MOUNTS,), with_=("mounts.local_mounts",)),
    Reader("unit_files.installable", of_text(unit_files.installable), (_UNIT,)),
    Reader("versions.compare_versions", _any_versions, tuple(b"deb\n" + pair for pair in _VERSIONS)),
    Reader(
        "versions.gem.satisfies",
        _satisfies,
        (b"1.2.3\n~> 1.2", b"2.0.0.rc1\n>= 2.0.a", b"1\n!= 1"),
        refuses=(ValueError,),
    ),
    *[
        Reader(f"versions.{name}.compare", _compared(rule), _VERSIONS, refuses=(ValueError,), share=0.6)
        for name, rule in _rules()
    ],
)
