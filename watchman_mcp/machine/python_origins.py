"""Who brought a Python distribution: what installed it says so in its metadata, or the place tells."""

from __future__ import annotations

import re
from functools import cached_property

from packaging.utils import canonicalize_name

from watchman_mcp.machine import conda
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.python_environments import Environment

MANAGERS = frozenset({"pip", "uv", "conda", "pdm", "poetry", "rpm"})
"""What writes its name into INSTALLER."""
_SYSTEM = re.compile(r"/usr/lib(?:64)?/[^/]+")
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
_OTHERS = ("/lib/apk/db", "/usr/lib/apk/db", "/var/lib/pacman/local")


class Origins:
    """Who brought the distributions of one environment."""

    def __init__(self, files: Files, environment: Environment) -> None:
        self._files = files
        self._environment = environment

    def manager(self, name: str, installer: str | None) -> str | None:
        """The manager of a distribution; None where the packages of another one tell of it.

        Distributions and conda of old put packages there without a word in them of who did.

        Raises: Denied, Broken.
        """
        if self._environment.manager:
            return self._environment.manager
        words = (installer or "").lower().split()
        if words and words[0] in MANAGERS:
            return None if words[0] == "conda" and self._conda is not None else words[0]
        if not words and canonicalize_name(name) in (self._conda or ()):
            return None
        return "pip" if words or self._of_distribution is None else self._of_distribution or None

    @cached_property
    def _conda(self) -> frozenset[str] | None:
        """The names of conda's packages in this environment; None where conda keeps none."""
        place = f"{self._environment.prefix}/{conda.META}"
        if not self._files.exists(place):
            return None
        names = [entry.name.removesuffix(".json") for entry in self._files.entries(place)]
        return frozenset(canonicalize_name(package.name) for name in names if (package := conda.named(name)))

    @cached_property
    def _of_distribution(self) -> str | None:
        """How a distribution's own are called here; empty where they are left to its packages."""
        if not _SYSTEM.fullmatch(self._environment.location):
            return None
        if any(map(self._files.exists, _RPM)):
            return "rpm"
        return "" if any(map(self._files.exists, _OTHERS)) else None
