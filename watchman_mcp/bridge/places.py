"""Where the state directory and the configuration are, and which version this is."""

from __future__ import annotations

import os

from watchman_mcp import __version__
from watchman_mcp.errors import Broken, ChangeRefused, Denied

STAGES = ("dev", "a", "b", "rc", "", "post")
NETWORKS = (
    *("nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.rclone"),
    *("fuse.davfs2", "fuse.s3fs", "fuse.gcsfuse", "fuse.smbnetfs", "fuse.curlftpfs"),
)


class Unwritable(Denied):
    """The state directory cannot be written: a read-only or full home, where Watchman works in memory."""


class OtherConfiguration(ChangeRefused):
    """The running daemon was started with another configuration file than this process would give it."""


def numbered(text: str) -> tuple[int, ...]:
    """A version as numbers that compare in its order, pre-releases before their release."""
    release, stage, number = [0, 0, 0], "", "0"
    for place, part in enumerate(text.partition("+")[0].split(".")):
        rest = part.lstrip("0123456789")
        if digits := part[: len(part) - len(rest)]:
            release[place:] = [int(digits), *release[place + 1 :]]
        if rest:
            stage = rest.rstrip("0123456789")
            number = rest[len(stage) :] or "0"
            break
    return (*release[:3], STAGES.index(stage) if stage in STAGES else 0, int(number))


VERSION: tuple[int, ...] = numbered(__version__)


def home() -> str:
    """The home of this user, as the environment or the user database names it."""
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = "/"
    return home.rstrip("/")


def config_path() -> str:
    """The configuration file that counts here, or nothing when there is none."""
    if named := os.environ.get("WATCHMAN_CONFIG", ""):
        return os.path.abspath(home() + named[1:] if named.startswith("~/") else named)
    usual = (home() + "/.config/watchman/config.toml", "/etc/watchman/config.toml")
    return next((path for path in usual if os.path.exists(path)), "")


def state_directory(config: str) -> str:
    """Where the daemon keeps its state: `[store] path` of the file, else the home's usual place.

    Raises: Broken when the file cannot be read.
    """
    path = ""
    if config:
        import tomllib

        try:
            with open(config, "rb") as file:
                store = tomllib.load(file).get("store", {})
        except (OSError, ValueError) as error:
            raise Broken(f"The configuration file {config} cannot be read: {error}. Correct it.") from error
        path = store.get("path", "") if isinstance(store, dict) else ""
        path = home() + path[1:] if isinstance(path, str) and path.startswith("~/") else path
        if path and not (isinstance(path, str) and path.startswith("/")):
            raise Broken(f"[store] path in {config} must be a full path, such as /var/lib/watchman.")
    return os.path.normpath(path) if path else home() + "/.local/state/watchman"


def network_file_system(directory: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The type of the network file system that holds the directory, or nothing when it is a local one."""
    real, longest, kind = os.path.realpath(directory) + "/", 0, ""
    if not os.path.exists(mounts):
        return ""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            point = left.split(" ")[4].replace("\\040", " ").replace("\\011", "\t").rstrip("/") + "/"
            if real.startswith(point) and len(point) >= longest:  # of two on one point the later one is seen
                longest, kind = len(point), right.split(" ")[0]
    return kind if kind in NETWORKS else ""
