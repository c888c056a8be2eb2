"""Epochs of a partition's owners, in the JetStream KV bucket `partitions`: key p, {epoch, owner}.

Every projection has a bucket of its own, for each claims its partitions by itself.

Whoever takes or seeks a partition raises its epoch by compare-and-set; the highest one owns it.
"""

from pipeline.jetstream import JetStream
from pipeline.kv import Bucket
from pipeline.projection import Projection


def bucket_of(js: JetStream, projection: Projection) -> Bucket:
    """The bucket of a projection's epochs."""
    return Bucket(js, projection.named("partitions"))


async def raise_epoch(
    js: JetStream, projection: Projection, partition: int, owner: str, above: int
) -> int:
    """The new epoch, higher than `above` and than any before it. Raises `kv.Overtaken`."""
    bucket = bucket_of(js, projection)
    known = await bucket.get(str(partition))
    epoch = 1 + max(above, int(known.value.get("epoch", 0)) if known else 0)
    await bucket.put(
        str(partition),
        {"epoch": epoch, "owner": owner},
        expected=known.revision if known else 0,
    )
    return epoch


async def owner_of(js: JetStream, projection: Projection, partition: int) -> str | None:
    """Who raised the epoch last."""
    known = await bucket_of(js, projection).get(str(partition))
    return str(known.value["owner"]) if known else None
