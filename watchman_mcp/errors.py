"""Every exception that crosses a room's border; each message tells its reader what to do next."""


class WatchmanError(Exception):
    """The root of all errors that Watchman raises on purpose."""


class Absent(WatchmanError):
    """The thing asked for is not on this machine; normal."""


class Denied(WatchmanError):
    """The machine refuses this user a look; normal."""


class Broken(WatchmanError):
    """The thing is there and cannot be read: a timeout, a damaged file, an answer of another shape."""


class NotFound(WatchmanError):
    """An id or a resource address that names nothing."""


class InvalidRequest(WatchmanError):
    """An argument that cannot be understood; the message lists what can."""


class ChangeRefused(WatchmanError):
    """A change that policy, a stale plan or a missing approval forbids."""


class StoreError(WatchmanError):
    """The store cannot be opened, read or written."""


class FleetError(WatchmanError):
    """The Neo4j server of the fleet cannot be asked or written; this machine's own answers go on."""
