"""The accounts of the machine, as passwd tells them."""

import pytest

from watchman_mcp.machine.accounts import read_users


def test_the_first_name_of_a_number_counts() -> None:
    assert read_users("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n+\n") == {0: "root"}


@pytest.mark.parametrize("uid", ["9" * 5_000, "٣", "-1", ""])
def test_an_account_with_what_is_no_number_is_passed_over(uid: str) -> None:
    assert read_users(f"odd:x:{uid}:0::/:/bin/sh\njoe:x:7:7::/:/bin/sh\n") == {7: "joe"}
