"""Ids that only the index has, found in constant memory: documents that nothing in the store makes.

The slot of a document is reckoned by its id, whatever that is: the fields of a ghost lie.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

from pipeline.model.events import slot_of
from pipeline.model.projection import Projection
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint


class Ids(Protocol):
    """All ids of a generation; `pipeline.search.scan.Survey` of it has them."""

    def ids(self) -> AsyncIterator[list[str]]: ...


async def strangers(
    projection: Projection, slots: range, known: Sums, index: Ids
) -> AsyncIterator[list[str]]:
    """Lists of ids of those slots with all in them that are not among the known, and some others.

    The index is scanned once, and a second time only where it has not what is known.
    """
    async with aclosing(_of(projection, slots, index)) as pages:  # type: ignore[type-var]
        async for page in pages:
            for each in page:
                known.add(fingerprint(each), -1)
    uneven = known.uneven()
    if not uneven:
        return
    async with aclosing(_of(projection, slots, index)) as pages:  # type: ignore[type-var]
        async for page in pages:
            if doubtful := [each for each in page if fingerprint(each) % BUCKETS in uneven]:
                yield doubtful


async def _of(projection: Projection, slots: range, index: Ids) -> AsyncIterator[list[str]]:
    async with aclosing(index.ids()) as pages:  # type: ignore[type-var]
        async for page in pages:
            yield [each for each in page if slot_of(projection.account_id(each)) in slots]
