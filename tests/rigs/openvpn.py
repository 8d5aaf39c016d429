"""Servers and clients of OpenVPN, which know one another by certificates of their own."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.networks import Side


@dataclass(frozen=True)
class Certificates:
    """A certificate of the servers and one of the clients, in a folder that is new."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("server", "client"):
            self._openssl(
                *("req", "-x509", "-newkey", "ec", "-nodes", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN=rig-{name}"),
            )

    def _openssl(self, *words: str) -> str:
        argv = ["openssl", *words]
        return subprocess.run(
            argv, cwd=self.folder, check=True, capture_output=True, text=True, timeout=20
        ).stdout

    def _fingerprint(self, name: str) -> str:
        told = self._openssl("x509", "-in", f"{name}.crt", "-noout", "-fingerprint", "-sha256")
        return told.split("=")[1].strip()

    def serve(self, side: Side, name: str, number: int, more: str, *words: str) -> subprocess.Popen[bytes]:
        """A server on a port and a network of this number, whose interface is `ovNUMBER`."""
        (side.folder / f"{name}.conf").write_text(
            f"server 10.{number}.0.0 255.255.255.0\ntopology subnet\nport {1190 + number}\n"
            f"dev ov{number}\ndev-type tun\ndh none\nkeepalive 1 10\n{self._own('server')}"
            f"peer-fingerprint {self._fingerprint('client')}\n{more}"
        )
        return side.start("openvpn", "--cd", str(side.folder), "--config", f"{name}.conf", *words)

    def connect(self, side: Side, name: str, to: Side, number: int, more: str) -> subprocess.Popen[bytes]:
        """A client of the server of this number."""
        (side.folder / f"{name}.conf").write_text(
            f"client\ndev tun\nnobind\nremote {to.address} {1190 + number}\n{self._own('client')}"
            f"peer-fingerprint {self._fingerprint('server')}\n{more}"
        )
        return side.start("openvpn", f"{name}.conf")

    def _own(self, name: str) -> str:
        return f"cert {self.folder}/{name}.crt\nkey {self.folder}/{name}.key\n"
