"""What Go writes into each program that it builds: from which package, of which module, in which version.

The block is described in the source of Go's own package debug/buildinfo; it is found by the headers of ELF,
Mach-O and PE programs. Nothing is read beyond fixed bounds, whatever a header says.
"""

from __future__ import annotations

import os
import re
from io import FileIO
from typing import Literal, NamedTuple

from watchman_mcp.machine.executables import Image, image_of
from watchman_mcp.machine.paths import failure

MAGIC = b"\xff Go buildinf:"
SEARCHED = 1 << 20
"""The block is near the beginning of the data; so many bytes are searched."""
TEXT_CAP = 1 << 20
_ALIGNED = 16
_HEADER = 32
_FRAME = 16
"""Bytes before and after the text that tell Go where it begins and ends."""
_NAME = re.compile(r"[A-Za-z0-9._~/+!@-]{1,1000}", re.ASCII)


class Build(NamedTuple):
    """One Go program."""

    go: str
    """Version of Go that built it."""
    package: str
    module: str
    version: str
    """Of the module; `(devel)` where it was built from a directory."""
    fetched: bool
    """Whether the module came with a checksum, as `go install MODULE@VERSION` fetches it."""
    architecture: str


def read_build(stream: FileIO, path: str) -> Build | None:
    """What Go wrote into this file; None if it is no Go program, or one built before there were modules.

    Raises: Broken.
    """
    try:
        image = image_of(stream)
        address = _find(image) if image else None
        if image is None or address is None:
            return None
        go, text = _strings(image, address)
    except OSError as error:
        raise failure(error, path) from error
    # The text is framed by two marks of 16 bytes each.
    if len(text) <= 2 * _FRAME or text[-_FRAME - 1 : -_FRAME] != b"\n":
        return None
    return _build(go.decode("utf-8", "replace"), text[_FRAME:-_FRAME].decode("utf-8", "replace"))


def _find(image: Image) -> int | None:
    """The address of the block."""
    begin = (image.begin + _ALIGNED - 1) // _ALIGNED * _ALIGNED
    content = image.read(begin, min(image.begin + image.size - begin, SEARCHED))
    place = content.find(MAGIC)
    while place >= 0 and place % _ALIGNED:
        place = content.find(MAGIC, place + 1)
    return begin + place if place >= 0 else None


def _strings(image: Image, address: int) -> tuple[bytes, bytes]:
    """The version of Go and the framed text."""
    header = image.read(address, _HEADER)
    if len(header) < _HEADER:
        return b"", b""
    pointer_size, flags = header[14], header[15]
    if flags & 2:  # since Go 1.18 they follow the header
        go, after = _counted(image, address + _HEADER)
        return go, _counted(image, after)[0]
    if pointer_size not in (4, 8):
        return b"", b""
    order: Literal["big", "little"] = "big" if flags & 1 else "little"
    first = int.from_bytes(header[16 : 16 + pointer_size], order)
    second = int.from_bytes(header[16 + pointer_size : 16 + 2 * pointer_size], order)
    return _pointed(image, first, pointer_size, order), _pointed(image, second, pointer_size, order)


def _counted(image: Image, address: int) -> tuple[bytes, int]:
    """A text after its length, which is written seven bits a byte, and the address behind it."""
    length = shift = 0
    for place, byte in enumerate(image.read(address, 10), 1):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return _whole(image, address + place, length), address + place + length
    return b"", address


def _pointed(image: Image, address: int, size: int, order: Literal["big", "little"]) -> bytes:
    """A text by the address of its own address and length."""
    header = image.read(address, 2 * size)
    if len(header) < 2 * size:
        return b""
    at, length = (int.from_bytes(part, order) for part in (header[:size], header[size:]))
    return _whole(image, at, length)


def _whole(image: Image, address: int, length: int) -> bytes:
    content = image.read(address, length) if length <= TEXT_CAP else b""
    return content if len(content) == length else b""


def _build(go: str, text: str) -> Build | None:
    package, module, version, fetched, architecture = "", "", "", False, ""
    for line in text.split("\n"):
        kind, _, rest = line.partition("\t")
        words = rest.split("\t")
        if kind == "path":
            package = words[0]
        elif kind == "mod" and len(words) >= 2:
            module, version, fetched = words[0], words[1], len(words) > 2 and bool(words[2])
        elif kind == "build" and rest.startswith("GOARCH="):
            architecture = rest.removeprefix("GOARCH=")
    if not _NAME.fullmatch(package):
        return None
    return Build(go, package, module, version, fetched, architecture if architecture.isalnum() else "")


def version_of(text: str) -> str | None:
    """The version that the VERSION file of an installed Go tells."""
    match = re.match(r"go\d[0-9A-Za-z.]{0,40}(?=\s|\Z)", text, re.ASCII)
    return match[0] if match else None


def bin_directories(text: str, home: str) -> list[str]:
    """The directories that a `go env -w` file names for programs."""
    found: list[str] = []
    for line in text.split("\n"):
        name, _, value = line.strip().partition("=")
        if name in ("GOBIN", "GOPATH"):
            paths = [path.replace("$HOME", home) for path in value.strip("\"'").split(":")]
            whole = [os.path.normpath(path) for path in paths if path.startswith("/") and "$" not in path]
            found += whole if name == "GOBIN" else [f"{path}/bin" for path in whole]
    return found
