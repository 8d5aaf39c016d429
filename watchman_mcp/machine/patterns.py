"""Names that are written with `*`, `?` and `[...]`."""

from fnmatch import fnmatchcase

LONGEST = 255
"""Signs of a pattern: as many as the longest name has."""


def fits(name: str, pattern: str) -> bool:
    """Whether a name is one that a pattern means; a pattern that is longer than any name means none.

    What opens brackets and closes none takes the square of its length to be understood.
    """
    return len(pattern) <= LONGEST and fnmatchcase(name, pattern)
