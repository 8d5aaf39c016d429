"""Settings in sections, as many programs in Python write and read them."""

import re
from configparser import RawConfigParser

_BLANKS = re.compile(r"[^\S\n]{100,}")


def read_ini(text: str) -> RawConfigParser:
    """The sections of a text, of each name the last value.

    Raises: configparser.Error.
    """
    parser = RawConfigParser(strict=False)
    # For a line of many blanks the time that the parser takes is the square of their number.
    parser.read_string(_BLANKS.sub(" " * 100, text))
    return parser
