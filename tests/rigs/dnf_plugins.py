"""dnf 4's plugin versionlock, from Debian's package of it, for one root."""

import subprocess
from pathlib import Path

from tests.rigs import cache

PACKAGE = "dnf-plugins-core"
HOW = f"apt-get update, so that `apt-get download {PACKAGE}` finds it"
LOCKLIST = "etc/dnf/plugins/versionlock.list"


def _fetch(place: Path) -> None:
    fetched = subprocess.run(
        ["apt-get", "download", PACKAGE], cwd=place, capture_output=True, text=True, timeout=120
    )
    packages = list(place.glob("*.deb"))
    if fetched.returncode or not packages:
        cache.missing(f"the package {PACKAGE}", HOW)
    subprocess.run(["dpkg", "--extract", packages[0], place / "tree"], check=True, timeout=60)


def versionlock(root: Path, path: Path) -> tuple[dict[str, str], list[str]]:
    """The environment and options with which dnf heeds the locks of this root; `path` is for its settings."""
    cache.need_programs("dpkg", "dpkg", "apt-get", how="take a Debian machine")
    tree = cache.once(PACKAGE, "1", _fetch) / "tree"
    path.mkdir()
    (path / "versionlock.conf").write_text(f"[main]\nenabled = 1\nlocklist = {root / LOCKLIST}\n")
    (root / LOCKLIST).parent.mkdir(parents=True, exist_ok=True)
    (root / LOCKLIST).touch()
    (root / LOCKLIST).with_suffix(".conf").write_text(f"[main]\nenabled = 1\nlocklist = /{LOCKLIST}\n")
    packages = tree / "usr/lib/python3/dist-packages"
    options = ["--setopt=plugins=1", f"--setopt=pluginpath={packages / 'dnf-plugins'}"]
    options += [f"--setopt=pluginconfpath={path}", "--disableplugin=*", "--enableplugin=versionlock"]
    return {"PYTHONPATH": str(packages)}, options
