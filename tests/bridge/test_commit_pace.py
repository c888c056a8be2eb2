"""The pace of commits: rare while deliveries keep coming, prompt before and after that."""

import pytest

from pipeline.bridge.commit_pace import CommitPace


@pytest.mark.parametrize(
    ("delivered", "committed"),
    [
        ("y", "y"),
        ("yyyyyyy", "ynnynny"),
        ("yn", "yy"),
        ("yyny", "ynyy"),
        ("nnyyyy", "yyynny"),
    ],
)
def test_which_intervals_have_a_commit(delivered: str, committed: str) -> None:
    pace = CommitPace()
    assert "".join("ny"[pace.due(each == "y")] for each in delivered) == committed


def test_after_a_rest_the_first_interval_has_a_commit() -> None:
    pace = CommitPace()
    assert pace.due(True)
    pace.rest()
    assert pace.due(True)
    assert not pace.due(True)
