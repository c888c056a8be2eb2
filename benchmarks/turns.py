"""Rounds of banks: each starts roles on a bank of its own, in turns with those of a checkout
beside this one, if there is one."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from benchmarks.bank import Bank
from benchmarks.checkout import HERE, Checkout
from benchmarks.figures import Result
from benchmarks.rounds import interleaved


class Sample(NamedTuple):
    """What one round came to in one figure."""

    name: str
    unit: str
    value: float


Once = Callable[[Checkout, bool], Awaitable[list[Sample]]]
"""Does a round with the roles of a checkout; told to go backwards every other time."""


async def in_turns(bank: Bank, rounds: int, once: Once, judge: Callable[[Result], None]) -> Result:
    """The result of so many rounds, after one that does not count, with the ratios and notes that
    `judge` adds; `before` has those of the checkout beside this one."""
    checkouts = [each for each in (bank.beside, HERE) if each]
    turns = {each: _counted(partial(once, each)) for each in checkouts}
    found = await interleaved(turns, rounds)
    result = _result(found[HERE], judge)
    if bank.beside:
        result.before = _result(found[bank.beside], judge)
    return result


def _counted(
    once: Callable[[bool], Awaitable[list[Sample]]],
) -> Callable[[], Awaitable[list[Sample]]]:
    """Has every other call go backwards."""
    calls = 0

    async def call() -> list[Sample]:
        nonlocal calls
        calls += 1
        return await once(calls % 2 == 0)

    return call


def _result(rounds: Sequence[Sequence[Sample]], judge: Callable[[Result], None]) -> Result:
    result = Result()
    for samples in zip(*rounds, strict=True):
        name, unit, _ = samples[0]
        result.add(name, unit, [each.value for each in samples])
    judge(result)
    return result
