"""Orphans: documents of a generation that no events in the store make, found in constant memory.

The slot of a document is computed from its id, because the fields of an orphan may be anything.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

from pipeline.model.events import slot_of
from pipeline.model.projection import Projection
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint


class DocumentIds(Protocol):
    """All ids of a generation; see `pipeline.search.scan.IndexScan`."""

    def ids(self) -> AsyncIterator[list[str]]: ...


async def possible_orphans(
    projection: Projection, slots: range, known: Sums, index: DocumentIds
) -> AsyncIterator[list[str]]:
    """Lists of ids with all orphans of the slots, and some other ids that share a bucket with one.

    `known` has the sums of all ids that the store makes. The index is scanned once, and a second
    time only if the sums differ.
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


async def _of(projection: Projection, slots: range, index: DocumentIds) -> AsyncIterator[list[str]]:
    async with aclosing(index.ids()) as pages:  # type: ignore[type-var]
        async for page in pages:
            yield [each for each in page if slot_of(projection.account_id(each)) in slots]
