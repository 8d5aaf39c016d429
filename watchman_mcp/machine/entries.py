"""What a directory says about the names in it."""

import os
import stat as modes
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "directory", "link", "other"]

_KINDS: dict[int, Kind] = {modes.S_IFREG: "file", modes.S_IFDIR: "directory", modes.S_IFLNK: "link"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory; a uid of -1 says that the machine told its kind and inode and nothing more."""

    name: str
    kind: Kind
    size: int
    mtime: float
    uid: int
    mode: int
    inode: int
    device: int


def listed(item: os.DirEntry[str]) -> Entry | None:
    """One name of a listing, not followed if it is a link; None if it is gone since."""
    try:
        return described(item.name, item.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None
    except OSError:
        # A directory that may be listed but not searched: only what the listing itself says is known.
        return Entry(item.name, _listed_kind(item), 0, 0.0, -1, 0, item.inode(), 0)


def described(name: str, status: os.stat_result) -> Entry:
    """What the machine says about a name."""
    kind = _KINDS.get(modes.S_IFMT(status.st_mode), "other")
    return Entry(
        name,
        kind,
        status.st_size,
        status.st_mtime,
        status.st_uid,
        status.st_mode,
        status.st_ino,
        status.st_dev,
    )


def _listed_kind(item: os.DirEntry[str]) -> Kind:
    try:
        if item.is_symlink():
            return "link"
        if item.is_dir(follow_symlinks=False):
            return "directory"
        return "file" if item.is_file(follow_symlinks=False) else "other"
    except OSError:  # a file system whose listings do not tell kinds
        return "other"
