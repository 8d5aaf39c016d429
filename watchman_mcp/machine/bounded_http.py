"""A connection of HTTP that ends after some time, however slowly the other side sends."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Connection(http.client.HTTPConnection):
    """One whose `connect` leaves its socket in `opened` too.

    `sock` is let go of as soon as the head of an answer was read that ends with the connection.
    """

    opened: socket.socket | None = None

    def end(self) -> None:
        """Wake who waits for the other side."""
        if self.opened is not None:
            with suppress(OSError):
                self.opened.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End it after so long, or with the context: who sends a byte now and then is not heard for ever."""
        end = threading.Timer(seconds, self.end)
        end.start()
        try:
            yield
        finally:
            end.cancel()
            self.close()
