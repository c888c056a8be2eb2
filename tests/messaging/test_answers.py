"""Calls that are repeated until NATS answers."""

import pytest
from nats.errors import TimeoutError as NoAnswer

from pipeline.messaging.answers import repeatable, until_answered


@pytest.mark.parametrize(
    ("outcomes", "removed"),
    [
        ([True], True),
        ([False], False),
        ([NoAnswer(), True], True),
        ([NoAnswer(), False], True),  # the call without an answer had removed it
    ],
)
async def test_what_was_removed_by_a_call_without_an_answer(
    outcomes: list[bool | Exception], removed: bool
) -> None:
    left = list(outcomes)

    async def remove() -> bool:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await until_answered(repeatable(remove)) is removed
    assert not left
