"""The ends of WireGuard tunnels, kept by wireguard-go."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

from tests.rigs.networks import Side, wait_for


@dataclass
class End:
    """One end of a tunnel; its interface has a name that no other namespace of this host has."""

    side: Side
    number: int
    name: str = field(init=False)
    secret: str = field(init=False)
    public: str = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.name = f"wg{self.side.name[-6:]}"
        self.secret = self.side.run("wg", "genkey").strip()
        done = subprocess.run(["wg", "pubkey"], input=self.secret.encode(), capture_output=True, check=True)
        self.public = done.stdout.decode().strip()
        (self.side.folder / "key").write_text(self.secret)

    def start(self, other: End, shared: str, allowed: str) -> None:
        """Bring the interface up, with the other end as its only peer."""
        self.process = self.side.start("wireguard-go", "--foreground", self.name)
        wait_for(lambda: self.name in self.side.run("wg", "show", "interfaces"), name="wireguard-go")
        (self.side.folder / "psk").write_text(shared)
        self.side.run(
            *("wg", "set", self.name, "private-key", str(self.side.folder / "key"), "listen-port", "51820"),
            *("peer", other.public, "preshared-key", str(self.side.folder / "psk")),
            *("endpoint", f"{other.side.address}:51820", "allowed-ips", allowed),
            *("persistent-keepalive", "1"),
        )
        self.side.run("ip", "address", "add", f"10.9.0.{self.number}/24", "dev", self.name)
        self.side.run("ip", "link", "set", self.name, "up")

    def stop(self) -> None:
        """End the program, and the interface with it."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(10)

    def shook_hands(self) -> bool:
        """Whether the other end was ever there."""
        told = self.side.run("wg", "show", self.name, "latest-handshakes").strip()
        return bool(told) and not told.endswith("\t0")
