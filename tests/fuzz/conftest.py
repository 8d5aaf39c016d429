"""Says at the end how many inputs each reader was given."""

import pytest

COUNTED = pytest.StashKey[dict[str, int]]()


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> dict[str, int]:
    """Where a test notes how many inputs it gave to a reader."""
    return request.config.stash.setdefault(COUNTED, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each reader, and the sum."""
    counts = config.stash.get(COUNTED, {})
    if len(counts) > 1:
        terminalreporter.section("inputs to readers")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:>10,} {name}")
        terminalreporter.write_line(f"{sum(counts.values()):>10,} in all")
