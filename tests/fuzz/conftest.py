"""Says at the end how many inputs each reader was given."""

import pytest

GIVEN = "inputs to a reader"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reader, and the sum; of tests in other processes too, by their reports."""
    counts: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            counts.update(value for key, value in getattr(report, "user_properties", ()) if key == GIVEN)
    if len(counts) > 1:
        terminalreporter.section("inputs to readers")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:>10,} {name}")
        terminalreporter.write_line(f"{sum(counts.values()):>10,} in all")
