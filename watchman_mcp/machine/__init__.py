"""The only code that touches the machine, which may be hostile."""

from dataclasses import dataclass
from pathlib import Path

from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files


@dataclass(frozen=True, slots=True)
class Machine:
    """The watched machine: its files below `root`, and the commands of the system that Watchman runs on."""

    files: Files
    commands: Commands
    root: Path

    @property
    def live(self) -> bool:
        """Whether the watched machine is the running one, so that its kernel and services may be asked."""
        return self.root == Path("/")
