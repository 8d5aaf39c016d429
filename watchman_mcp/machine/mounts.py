"""The file systems on this machine's own disks, and how full they are; none is asked that could hang."""

import os
import re
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass

from watchman_mcp.machine.paths import printable

LOCAL = frozenset({
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "jffs2", "jfs", "minix",
    "msdos", "nilfs2", "ntfs", "ntfs3", "reiserfs", "ubifs", "ufs", "vfat", "xfs", "zfs",
})  # fmt: skip
"""File systems that the kernel itself keeps on this machine's own disks, so that asking one cannot hang."""

# A path through one of these ends where the kernel can answer; through any other, a dead server may be asked.
_PASSABLE = LOCAL | {"devtmpfs", "erofs", "iso9660", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs", "udf"}
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    id: str
    parent: str
    device: str
    point: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One local file system, in bytes; those of one pool share its free space."""

    source: str
    mount_point: str
    pool: str
    size: int
    used: int
    available: int
    inodes: int
    inodes_used: int


def read_mounts(text: str) -> list[Mount]:
    """The lines of a mountinfo file."""
    mounts = []
    for line in text.split("\n"):
        left, separator, right = line.partition(" - ")
        place, device = left.split(" "), right.split(" ")
        if separator and len(place) >= 6 and len(device) >= 2:
            point, source = _plain(place[4]), _plain(device[1])
            mounts.append(Mount(place[0], place[1], place[2], point, device[0], source))
    return mounts


def local_mounts(mounts: list[Mount]) -> tuple[list[Mount], list[Mount]]:
    """The mounts of local file systems that may be asked, shortest path first, and those behind others."""
    covered = {(mount.parent, mount.point) for mount in mounts if mount.parent != mount.id}
    # Where the root itself hangs, nothing runs that could ask.
    risky = [mount.point + "/" for mount in mounts if mount.kind not in _PASSABLE and mount.point != "/"]
    asked: list[Mount] = []
    behind: list[Mount] = []
    for mount in sorted(mounts, key=lambda mount: len(mount.point)):
        local = mount.kind in LOCAL or (mount.point == "/" and mount.kind == "overlay")
        # What a loop device holds is a file of another file system and is counted there.
        if not local or (mount.id, mount.point) in covered or mount.source.startswith("/dev/loop"):
            continue
        through = any(mount.point.startswith(point) for point in risky)
        (behind if through else asked).append(mount)
    return asked, behind


def _plain(field: str) -> str:
    """A field of mountinfo without the escapes of its spaces."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def file_systems(mounts: list[Mount], unseen: list[tuple[str, str]]) -> Iterator[FileSystem]:
    """Each local file system once, where its path is shortest."""
    asked, behind = local_mounts(mounts)
    seen = set()
    for mount in asked:
        try:
            # A container's /etc/hosts is a mount too; the file system it comes from has better names.
            if mount.device in seen or not modes.S_ISDIR(os.stat(mount.point).st_mode):
                continue
            found = os.statvfs(mount.point)
        except FileNotFoundError:  # unmounted since
            continue
        except OSError as error:
            unseen.append((printable(mount.point), f"it cannot be asked for its space: {error.strerror}"))
            continue
        seen.add(mount.device)
        if found.f_blocks:
            yield _file_system(mount, found)
    why = "its path leads through a file system that may hang, so it is not asked"
    unseen.extend((printable(mount.point), why) for mount in behind if mount.device not in seen)


def _file_system(mount: Mount, found: os.statvfs_result) -> FileSystem:
    block, free = found.f_frsize, found.f_bfree * found.f_frsize
    size = found.f_blocks * block
    pool = mount.source.partition("/")[0] if mount.kind == "zfs" else mount.device
    inodes_used = found.f_files - found.f_ffree
    return FileSystem(
        mount.source, mount.point, pool, size, size - free, found.f_bavail * block, found.f_files, inodes_used
    )
