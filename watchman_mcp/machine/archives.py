"""Decompresses a file piece by piece, within limits that a bomb runs into."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from io import FileIO
from typing import Protocol

from watchman_mcp.errors import Broken
from watchman_mcp.machine.paths import failure, printable

OUTPUT_CAP = 2 << 30
RATIO_CAP = 1000
# Below this much output any ratio passes: a short log may well be one line many times.
RATIO_FREE = 1 << 20
MEMORY_CAP = 128 << 20

_READ_SIZE = 64 << 10
_CHUNK = 256 << 10


def inflated(stream: FileIO, suffix: str, path: str) -> Iterator[bytes]:
    """What a `.gz`, `.xz` or `.bz2` file holds, in pieces of bounded size.

    Raises: Broken (damaged, cut off, a bomb, or packed in a way that cannot be read here).
    """
    fed = made = 0
    decoder, fresh, packed = _decoder(suffix, path), True, b""
    while True:
        if not packed and decoder.needs_input:
            packed = _more(stream, path)
            fed += len(packed)
            if not packed and not fresh:
                raise Broken(f"{printable(path)} ends in the middle; what is whole in it was read")
            if not packed:
                return
        if fresh:
            packed = packed.lstrip(b"\0")  # padding between members and at the end
            if not packed:
                continue
        piece = _unpack(decoder, packed, path)
        fresh, packed = False, b""
        made += len(piece)
        if made > OUTPUT_CAP or made > max(RATIO_FREE, RATIO_CAP * fed):
            raise Broken(f"{printable(path)} unpacks to far more than a log would; it is not read further")
        if piece:
            yield piece
        if decoder.eof:
            packed = decoder.unused_data
            decoder, fresh = _decoder(suffix, path), True


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gzip:
    """The gzip decoder of zlib with the manners of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


def _decoder(suffix: str, path: str) -> _Decoder:
    match suffix:
        case ".gz":
            return _Gzip()
        case ".xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_CAP)
        case ".bz2":
            return bz2.BZ2Decompressor()
    raise Broken(f"{printable(path)} is packed as {suffix}, which is not read; pack it as .gz, .xz or .bz2")


def _more(stream: FileIO, path: str) -> bytes:
    try:
        return stream.read(_READ_SIZE) or b""
    except OSError as error:
        raise failure(error, path) from error


def _unpack(decoder: _Decoder, packed: bytes, path: str) -> bytes:
    try:
        return decoder.decompress(packed, _CHUNK)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise Broken(
            f"{printable(path)} is damaged ({error}); what came before the damage was read"
        ) from error
