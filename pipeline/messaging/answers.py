"""Repeats what NATS does not answer: the servers of a cluster may be electing a leader."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.messaging.values import JetStreamError, Refused, StorageFull, TooManyReplicas
from pipeline.support.cancellation import raise_if_cancelled

T = TypeVar("T")

FAILURES: Final = (NatsError, JetStreamError, OSError)
ANSWERS: Final = (Refused, StorageFull, TooManyReplicas)
"""Failures that asking again does not end."""
ELECTION: Final = 10.0
"""Seconds for which servers that can be reached may be electing a leader."""

_AGAIN_SECONDS: Final = 0.25


async def until_answered(
    call: Callable[[], Awaitable[T]],
    seconds: float = math.inf,
    failed: Callable[[Exception], None] = lambda _: None,
) -> T:
    """Repeat the call until NATS answers it; `failed` is called with each failure before that.

    Whether a call was carried out is not known when its answer is lost, so the call must be one
    that may be repeated. A failure after so many `seconds` is raised.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        try:
            return await call()
        except ANSWERS:
            raise
        except FAILURES as error:
            if clock() > deadline:
                raise
            failed(error)
        raise_if_cancelled()
        await asyncio.sleep(_AGAIN_SECONDS)


def repeatable(remove: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """`remove`, which says whether there was something to remove, for `until_answered`.

    After a call that had no answer, nothing left may mean that it was carried out: it counts as
    removed.
    """
    calls = count(1)

    async def call() -> bool:
        first = next(calls) == 1
        return await remove() or not first

    return call
