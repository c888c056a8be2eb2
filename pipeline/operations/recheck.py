"""The loop in which checker and repair compare documents again, while traffic goes on.

A document may be behind only because its event is on the way. So whatever differs at first sight is
compared again until it is right or the patience is over. Both callers read documents first and
events after, so that the events are never older than the document, and each decides by its own
arithmetic what differs: this module must not know any.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from itertools import islice
from typing import Final

CHUNK: Final = 500
"""Documents that are read in one request."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0


class Patience:
    """Seconds in which documents may still come right.

    Only the pauses count: on a slow store, too, a document is compared about a dozen times in 10 s.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds


async def rounds(
    doubts: Collection[str], patience: Patience
) -> AsyncIterator[tuple[list[str], bool]]:
    """Yield the ids in doubt, in chunks, round after round, and whether this is the last round.

    The caller removes from `doubts` what is settled. There is at least one round.
    """
    pause = _FIRST_PAUSE
    while doubts:
        last = patience.left <= 0
        for ids in chunks(list(doubts), CHUNK):
            yield ids, last
        if last or not doubts:
            return
        await asyncio.sleep(pause)
        patience.left -= pause
        pause = min(pause * 1.6, _LONGEST_PAUSE)


def caught_up(version: int, before: int) -> bool:
    """Whether a document has come to the version that was newest when it was compared `before`.

    It follows its events then, even if newer ones have been stored meanwhile.
    """
    return version >= before > 0


def chunks(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some
