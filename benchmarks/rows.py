"""What a measurement gives: a number, the floor beside it, and the budget it is held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Budget:
    """The bound of a row's value, or of its ratio to the floor."""

    limit: float
    of_ratio: bool = False
    least: bool = False
    """Whether the bound is the least that is wanted, not the most."""

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {number(self.limit)}{'x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: float
    unit: str
    floor: float | None = None
    beside: str = ""
    """What the floor is."""
    budget: Budget | None = None

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the floor."""
        return self.value / self.floor if self.floor else None

    @property
    def over(self) -> bool:
        """Whether the budget is not kept."""
        if self.budget is None:
            return False
        held = self.ratio if self.budget.of_ratio else self.value
        return held is not None and (
            held < self.budget.limit if self.budget.least else held > self.budget.limit
        )


def number(value: float) -> str:
    """A number with as many digits as it deserves."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that this many percent of the values do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def shown(rows: Sequence[Row]) -> str:
    """The table as text."""
    head = ("", "value", "unit", "floor", "ratio", "budget", "", "floor is")
    lines = [head]
    for row in rows:
        floor = number(row.floor) if row.floor is not None else "-"
        ratio = f"{number(row.ratio)}x" if row.ratio is not None else "-"
        held = "" if row.budget is None else "over" if row.over else "kept"
        budget = str(row.budget or "-")
        lines.append((row.what, number(row.value), row.unit, floor, ratio, budget, held, row.beside))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = (False, True, False, True, True, True, False, False)
    return "\n".join(
        "  ".join(
            t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
