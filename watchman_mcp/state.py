"""What a daemon keeps in its state directory beside the database: the key of fingerprints, and its log."""

from __future__ import annotations

import logging
import logging.handlers
import os
import secrets
import sys
from pathlib import Path

from watchman_mcp.cleaning import Cleaner, LogFilter


def key_of(directory: Path | None) -> bytes:
    """The key of the fingerprints that stand for secrets: made once, beside the database, never in it."""
    if directory is None:
        return secrets.token_bytes(32)
    path = directory / "key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            key = secrets.token_bytes(32)
            file.write(key)
        return key


def log_to(directory: Path | None, cleaner: Cleaner, also_stderr: bool) -> None:
    """A rotated file in the state directory; everything logged has passed cleaning."""
    handlers: list[logging.Handler] = []
    if directory is not None:
        handlers.append(
            logging.handlers.RotatingFileHandler(
                directory / "daemon.log", maxBytes=2_000_000, backupCount=3, encoding="utf-8"
            )
        )
    if also_stderr or directory is None:
        handlers.append(logging.StreamHandler(sys.stderr))
    form = LogFilter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"), cleaner)
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    for noisy in ("mcp", "watchfiles", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
