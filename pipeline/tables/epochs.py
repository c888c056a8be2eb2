"""Epochs of a partition's owners, in the JetStream KV bucket `partitions`: key p, {epoch, owner}.

Whoever acquires a partition raises its epoch by compare-and-set; the owner of the highest epoch
owns the partition. Every projection has its own bucket, because each has owners of its own.
"""

from typing import Final

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry
from pipeline.model.projection import Projection

HIGHEST: Final = 2**53
"""No partition is acquired that often: a higher one was written by hand, and is ignored."""


def bucket_of(js: JetStream, projection: Projection) -> Bucket:
    """The bucket of a projection's epochs."""
    return Bucket(js, projection.named("partitions"))


async def raise_epoch(
    js: JetStream, projection: Projection, partition: int, owner: str, above: int
) -> int:
    """The new epoch, higher than `above` and than all before it. Raises `kv.Overtaken`."""
    bucket = bucket_of(js, projection)
    known = await bucket.get(str(partition))
    # `above` is the checkpoint's epoch. It counts too, because either may be lost: the bucket with
    # JetStream's disk, the checkpoint with the index. Redis would lose a counter at a FLUSHALL.
    epoch = 1 + max(above, (epoch_of(known) or 0) if known else 0)
    await bucket.put(
        str(partition),
        {"epoch": epoch, "owner": owner},
        expected=known.revision if known else 0,
    )
    return epoch


async def owner_of(js: JetStream, projection: Projection, partition: int) -> str | None:
    """The worker that raised the epoch last."""
    known = await bucket_of(js, projection).get(str(partition))
    return str(known.value.get("owner")) if known else None


def epoch_of(entry: KeyValueEntry) -> int | None:
    """The epoch in an entry; None if it is invalid: written by hand."""
    epoch = entry.value.get("epoch")
    return epoch if type(epoch) is int and 0 <= epoch < HIGHEST else None
