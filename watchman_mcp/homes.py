"""A file in a person's home: read and replaced only where it is theirs, with a copy kept beside it."""

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class LeftAlone(Exception):
    """Nothing was changed; the message is the sentence for the person."""


class Note(TypedDict):
    """What is remembered beside a changed file, so that the change can be undone without a trace."""

    absent: bool  # whether there was no file before
    made: list[str]  # directories that had to be made for it, deepest first
    digest: str  # of the file right after the change; empty where going back to the copy would lose something


@dataclass(frozen=True)
class HomeFile:
    """One file, the home it must lie in, and what is kept beside it while a change of ours stands."""

    path: Path
    home: Path

    @property
    def backup(self) -> Path:
        return self.path.with_name(self.path.name + ".watchman-backup")

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".watchman-setup")

    def look(self) -> bytes | None:
        """What the file holds, None where it is absent.

        Raises: LeftAlone where the file is not a plain file of this user in this home.
        """
        _must_own(self.home, f"run this as that user, for whom {self.path} is")
        try:
            real = self.path.resolve()
        except (OSError, RuntimeError) as error:
            raise LeftAlone(f"{self.path} leads nowhere ({error}), so it was left as it is.") from error
        if not real.is_relative_to(self.home.resolve()):
            raise LeftAlone(f"{self.path} leads out of {self.home}, to {real}, so it was left as it is.")
        if self.path.is_symlink() and not real.exists():
            raise LeftAlone(f"{self.path} is a link to {real}, which is not there, so it was left as it is.")
        _must_own(next(part for part in real.parents if part.exists()), "nothing was changed there")
        if not real.exists():
            return None
        _must_own(real, "it was left as it is")
        status = real.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise LeftAlone(f"{real} is not a plain file with one name, so it was left as it is.")
        if not status.st_mode & stat.S_IWUSR:
            raise LeftAlone(f"{real} is read-only, so it was left as it is.")
        return real.read_bytes()

    def read(self) -> bytes | None:
        """What the file holds now, None where it is absent."""
        return _bytes(self.path)

    def copy(self) -> bytes | None:
        """What the file held before the change, None where no copy is kept."""
        return _bytes(self.backup)

    def write(self, raw: bytes, expected: bytes | None) -> None:
        """Replace the file in one step, if it still holds what is expected.

        Raises: LeftAlone where another program wrote it in between.
        """
        real = self.path.resolve()
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.read() != expected:
            raise LeftAlone(f"{self.path} was changed by another program just now; run this again.")
        _replace(real, raw, real if expected is not None else self.backup)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def keep_copy(self, raw: bytes) -> None:
        _replace(self.backup, raw, self.path.resolve())

    def new_note(self, raw: bytes | None) -> Note:
        """The note for a change that is about to begin on a file that holds `raw`."""
        missing = [str(part) for part in self.path.parents if not part.exists()]
        return {"absent": raw is None, "made": missing, "digest": ""}

    def note(self) -> Note | None:
        """The note of an earlier change; one that cannot be read counts as none."""
        try:
            said = json.loads(self._note.read_bytes())
            return {"absent": bool(said["absent"]), "made": list(said["made"]), "digest": str(said["digest"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def untouched(self, note: Note | None, raw: bytes | None) -> bool:
        """Whether `raw` is just what the change left behind, so that going back to the copy loses nothing."""
        if note is None or raw is None or not (note["absent"] or self.backup.exists()):
            return False
        return note["digest"] == digest(raw)

    def remember(self, note: Note) -> None:
        _replace(self._note, json.dumps(note).encode(), self.path.resolve())

    def forget(self, note: Note | None) -> None:
        """Take away the copy, the note and those directories made for the file that are empty again."""
        self.backup.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        for directory in note["made"] if note else []:
            with suppress(OSError):
                os.rmdir(directory)


def digest(raw: bytes | None) -> str:
    """A fingerprint of what a file holds; of an absent one, nothing."""
    return "" if raw is None else hashlib.sha256(raw).hexdigest()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _must_own(path: Path, so: str) -> None:
    try:
        owner = path.stat().st_uid
    except OSError as error:
        raise LeftAlone(f"{path} cannot be looked at ({error.strerror}), so nothing was changed.") from error
    if owner != os.geteuid():
        you = "you are root" if os.geteuid() == 0 else f"you are user id {os.geteuid()}"
        raise LeftAlone(f"{path} belongs to user id {owner} and {you}: {so}.")


def _replace(path: Path, raw: bytes, like: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like.exists():
                status = like.stat()
                os.fchown(descriptor, -1, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
