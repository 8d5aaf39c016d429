"""Asks strongSwan by its socket (VICI), whose messages are binary: no name is taken for another part.

No command of it that is used tells a secret.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

from watchman_mcp.errors import Absent, Broken, Denied

_REQUEST, _RESPONSE, _REGISTER, _CONFIRM, _EVENT = 0, 1, 3, 5, 7
_SECTION, _SECTION_END, _VALUE, _LIST, _ITEM, _LIST_END = range(1, 7)
_DEPTH = 16
_LONGEST = 512 * 1024
"""No packet of strongSwan is longer."""
_MOST = 32 << 20
_SECONDS = 4.0

Section = dict[str, Any]
"""Values, lists of values and sections by name."""


def ask(path: str, questions: dict[str, str]) -> list[list[Section]]:
    """What each command tells by events of this name, in the order of the questions.

    Raises: Absent (nothing listens there), Denied, Broken.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(_SECONDS)
        try:
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise Broken(f"{path} is no socket; see who made it")
            asked.connect(path)
            talk = _Talk(asked)
            return [list(talk.told(command, event)) for command, event in questions.items()]
        except PermissionError as error:
            raise Denied("strongSwan may not be asked by this user") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Absent("strongSwan does not run") from error
        except OSError as error:
            raise Broken(f"strongSwan does not answer at {path} ({error}); run `swanctl --stats`") from error


class _Talk:
    def __init__(self, asked: socket.socket) -> None:
        self.asked, self.left = asked, _MOST
        self.until = time.monotonic() + _SECONDS

    def told(self, command: str, event: str) -> Iterator[Section]:
        """The sections of every event that a command leads to.

        Raises: Broken, OSError.
        """
        self._send(_REGISTER, event)
        if (answer := self._packet())[:1] != bytes([_CONFIRM]):
            raise Broken(f"strongSwan knows no {event} (answer {answer[:1].hex()}); a newer one is needed")
        self._send(_REQUEST, command)
        head = bytes([_EVENT, len(event)]) + event.encode()
        while True:
            packet = self._packet()
            if packet.startswith(head):
                yield read_message(packet[len(head) :])
            elif packet[:1] == bytes([_RESPONSE]):
                return
            else:
                raise Broken(f"strongSwan knows no {command} (answer {packet[:1].hex()})")

    def _send(self, kind: int, name: str) -> None:
        packet = bytes([kind, len(name)]) + name.encode()
        self.asked.sendall(len(packet).to_bytes(4, "big") + packet)

    def _packet(self) -> bytes:
        length = int.from_bytes(self._exactly(4), "big")
        if not 0 < length <= _LONGEST or length > self.left:
            raise Broken("strongSwan tells more than can be read; run `swanctl --list-sas` by hand")
        self.left -= length
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            self.asked.settimeout(max(self.until - time.monotonic(), 0.001))
            part = self.asked.recv(length - len(found))
            if not part:
                raise Broken("strongSwan ended the connection; run `swanctl --stats` by hand")
            found += part
        return bytes(found)


def read_message(content: bytes) -> Section:
    """The sections, lists and values of a message.

    Raises: Broken.
    """
    open_sections: list[Section] = [{}]
    items: list[str] | None = None
    reading = _Reading(content)
    while reading.more():
        kind = reading.number(1)
        if items is not None:
            if kind == _ITEM:
                items.append(reading.text(2))
            elif kind == _LIST_END:
                items = None
            else:
                raise _odd()
        elif kind == _SECTION and len(open_sections) < _DEPTH:
            inner: Section = {}
            open_sections[-1][reading.text(1)] = inner
            open_sections.append(inner)
        elif kind == _SECTION_END and len(open_sections) > 1:
            open_sections.pop()
        elif kind == _VALUE:
            name = reading.text(1)
            open_sections[-1][name] = reading.text(2)
        elif kind == _LIST:
            items = open_sections[-1][reading.text(1)] = []
        else:
            raise _odd()
    if len(open_sections) > 1 or items is not None:
        raise _odd()
    return open_sections[0]


class _Reading:
    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def more(self) -> bool:
        return self.place < len(self.content)

    def number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def text(self, width: int) -> str:
        """A text behind its length, which has so many bytes."""
        return self._take(self.number(width)).decode("utf-8", "surrogateescape")

    def _take(self, count: int) -> bytes:
        found = self.content[self.place : self.place + count]
        if len(found) < count:
            raise _odd()
        self.place += count
        return found


def _odd() -> Broken:
    return Broken("strongSwan answers in another shape than it is documented; run `swanctl --list-sas --raw`")
