"""Tells which paths of the machine changed, soon after, without looking at them all the time."""

import os
import stat as modes
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePath

import anyio
from anyio.to_thread import run_sync
from watchfiles import Change

# What watchfiles documents as its backend: unlike awatch() it is armed before the first wait, so that no
# change is lost in between.
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.paths import locate

# Changes are gathered until none came for one step, or for the whole debounce time.
_STEP_MS = 100
_DEBOUNCE_MS = 150
# The kernel does not tell everything (network file systems, a moved grandparent): that is noticed this often.
_LOOK_SECONDS = 4.0
# ... and less often where looking takes long, so that it never takes more than this part of the time.
_LOOK_SHARE = 0.0005
# How often it is asked which paths are wanted.
_ASK_SECONDS = 2.0
_REPORT_SECONDS = 0.5
_ARM_ROUNDS = 3

# Device and inode.
_Identity = tuple[int, int]
# What can be seen of a path from outside; None when nothing can.
_Sign = tuple[int, int, int, int, int] | None


async def changes(files_root: Path, paths: Callable[[], frozenset[str]]) -> AsyncIterator[set[str]]:
    """Which of these files and directories of the machine changed, appeared or vanished, while asked.

    A file is watched through its directory, a directory through the names directly in it; what does not exist
    yet is noticed when it appears. `paths` is asked again every few seconds: one that it did not name before
    is told as changed once, for nobody knows since when. The first report is empty and says that from now on
    nothing is missed; the others come at most twice a second.

    Raises: Broken (the kernel has no watches left).
    """
    watch = _Watch(files_root, paths)
    limiter = anyio.CapacityLimiter(1)
    try:
        await run_sync(watch.start, limiter=limiter)
        yield set()
        while True:
            changed = await run_sync(watch.wait, limiter=limiter, abandon_on_cancel=True)
            if changed:
                reported_at = anyio.current_time()
                yield changed
                await anyio.sleep_until(reported_at + _REPORT_SECONDS)
    finally:
        watch.stop()


class _View:
    """Where the asked paths are at this moment, and what they look like."""

    def __init__(self, root: Path, paths: frozenset[str]) -> None:
        self.directories: dict[str, _Identity] = {}
        self.signs: dict[str, _Sign] = {}
        self._root = root
        # Real paths, and the asked paths that a change of them, or of any name in them, is about.
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._listings: defaultdict[str, set[str]] = defaultdict(set)
        self._ways: set[str] = set()
        self._parents: dict[str, tuple[str, os.stat_result] | None] = {}
        for path in paths:
            self.signs[path] = self._end(path)
            self._way(path)

    def hits(self, reported: Iterable[str]) -> set[str]:
        """The asked paths that changes of these real paths are about."""
        found: set[str] = set()
        for path in reported:
            found |= self._names.get(path, set()) | self._listings.get(os.path.dirname(path), set())
        return found

    def leads_elsewhere(self, reported: Iterable[str]) -> bool:
        """Whether a change of these real paths may have moved an asked path."""
        return not self._ways.isdisjoint(reported)

    def _end(self, path: str) -> _Sign:
        seen = _seen(self._root, path)
        if seen is None:
            return None
        real, status = seen
        self._names[real].add(path)
        self._ways.add(real)
        if modes.S_ISDIR(status.st_mode):
            self._listings[real].add(path)
            self.directories[real] = (status.st_dev, status.st_ino)
        else:
            self._watch(os.path.dirname(real))
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _way(self, path: str) -> None:
        """Watch the nearest directory above the path, for the next name on the way to it."""
        name = PurePath(path)
        for parent in name.parents:
            seen = self._parent(str(parent))
            if seen is not None and modes.S_ISDIR(seen[1].st_mode):
                real = seen[0]
                self.directories[real] = (seen[1].st_dev, seen[1].st_ino)
                self._ways |= {real, f"{real.rstrip('/')}/{name.name}"}
                if parent == PurePath(path).parent:
                    self._names[f"{real.rstrip('/')}/{name.name}"].add(path)
                return
            name = parent

    def _parent(self, path: str) -> tuple[str, os.stat_result] | None:
        if path not in self._parents:
            self._parents[path] = _seen(self._root, path)
        return self._parents[path]

    def _watch(self, directory: str) -> None:
        if directory in self.directories:
            return
        with suppress(OSError):
            status = os.stat(directory)
            self.directories[directory] = (status.st_dev, status.st_ino)


class _Watch:
    """The kernel's watches for a set of paths; they follow the paths as directories come and go."""

    def __init__(self, root: Path, paths: Callable[[], frozenset[str]]) -> None:
        self._root = root
        self._paths = paths
        self._known = frozenset[str]()
        self._view: _View | None = None
        self._armed: dict[str, _Identity] = {}
        self._notify: RustNotify | None = None
        self._stopped = threading.Event()
        self._busy = threading.Lock()
        self._pause = _LOOK_SECONDS

    def start(self) -> None:
        """Begin to watch.

        Raises: Broken.
        """
        with self._busy:
            self._refresh()
        self._close_if_stopped()

    def wait(self) -> set[str]:
        """Block until something changed, or until nothing has for a while.

        Raises: Broken.
        """
        with self._busy:
            changed = self._wait()
        self._close_if_stopped()
        return changed

    def stop(self) -> None:
        """Take the watches back, now or as soon as the thread that waits lets go of them."""
        self._stopped.set()
        self._close_if_stopped()

    def _close_if_stopped(self) -> None:
        if self._stopped.is_set() and self._busy.acquire(blocking=False):
            notify, self._notify = self._notify, None
            if notify is not None:
                notify.close()
            self._busy.release()

    def _wait(self) -> set[str]:
        deadline = time.monotonic() + self._pause
        while not self._stopped.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or self._paths() != self._known:
                return self._refresh()
            hits, moved = self._collect(min(left, _ASK_SECONDS))
            changed = hits | self._refresh() if hits or moved else set()
            if changed:
                return changed
        return set()

    def _collect(self, seconds: float, step_ms: int = _STEP_MS) -> tuple[set[str], bool]:
        """The asked paths that the kernel reports, and whether one of them may be elsewhere now."""
        assert self._view is not None
        if self._notify is None:
            self._stopped.wait(seconds)
            return set(), False
        try:
            raw = self._notify.watch(_DEBOUNCE_MS, step_ms, max(int(seconds * 1000), 1), self._stopped)
        except WatchfilesRustInternalError:
            # A name that is not UTF-8, which anyone may create, ends these watches and hides what they saw.
            self._notify.close()
            self._notify, self._armed = None, {}
            return set(self._paths()), True
        if isinstance(raw, str):
            return set(), False
        reported = {path for _, path in raw}
        if any(kind == Change.deleted and path in self._armed for kind, path in raw):
            # The kernel's watch went with the directory, and a new one in its place may get the same inode.
            self._armed = {}
        return self._view.hits(reported), self._view.leads_elsewhere(reported)

    def _refresh(self) -> set[str]:
        """Look at every asked path, watch where they are now, and tell which look different."""
        changed: set[str] = set()
        self._known = paths = self._paths()
        for _ in range(_ARM_ROUNDS):
            # what it cost, not how long it took: on a busy machine it is not to look more seldom
            began = time.thread_time()
            view = _View(self._root, paths)
            self._pause = max(_LOOK_SECONDS, (time.thread_time() - began) / _LOOK_SHARE)
            if self._view is not None:
                old = self._view.signs
                changed |= {path for path, sign in view.signs.items() if path not in old or sign != old[path]}
            if view.directories == self._armed:
                self._view = view
                break
            changed |= self._arm(view)
            self._view = view
        return changed

    def _arm(self, view: _View) -> set[str]:
        """Watch the directories of this view; returns what the old watches still had to say."""
        fresh = _notifier(list(view.directories))
        last = self._collect(0.001, step_ms=1)[0] if self._notify is not None else set()
        if self._notify is not None:
            self._notify.close()
        self._notify, self._armed = fresh, view.directories
        return last


def _seen(root: Path, path: str) -> tuple[str, os.stat_result] | None:
    """The real path and the state of what is at a path of the machine, if it can be seen."""
    try:
        descriptor = locate(root, path)
    except (Absent, Denied, Broken):
        return None
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _notifier(directories: list[str]) -> RustNotify | None:
    """The kernel's watches on these directories, as far as this user may list them."""
    readable = [path for path in directories if _is_text(path) and os.access(path, os.R_OK)]
    if not readable:
        return None
    try:
        try:
            return _notify(readable, lenient=False)
        except (FileNotFoundError, PermissionError):  # one has just gone, or is closed by other rules
            return _notify(readable, lenient=True)
    except WatchfilesRustInternalError as error:
        raise Broken(
            f"no more directories can be watched ({error}); raise the sysctl fs.inotify.max_user_instances"
        ) from error
    except OSError as error:
        raise Broken(
            f"no more directories can be watched ({error}); raise the sysctl fs.inotify.max_user_watches"
        ) from error


def _notify(directories: list[str], *, lenient: bool) -> RustNotify:
    return RustNotify(
        directories,
        debug=False,
        force_polling=False,
        poll_delay_ms=300,
        recursive=False,
        ignore_permission_denied=lenient,
    )


def _is_text(path: str) -> bool:
    """Whether a path can be handed to the watcher, which knows only names that are UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
