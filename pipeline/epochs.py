"""Epochs of a partition's owners, in the JetStream KV bucket `partitions`: key p, {epoch, owner}.

Whoever takes or seeks a partition raises its epoch by compare-and-set; the highest one owns it.
"""

from typing import Final

import orjson

from pipeline.jetstream import JetStream

BUCKET: Final = "partitions"


class Overtaken(Exception):
    """Another worker raised the epoch at the same moment."""


async def raise_epoch(js: JetStream, partition: int, owner: str, above: int) -> int:
    """The new epoch, higher than `above` and than any before it. Raises `Overtaken`."""
    await js.kv(BUCKET)
    subject = f"$KV.{BUCKET}.{partition}"
    last = await js.last_message(f"KV_{BUCKET}", subject)
    known = orjson.loads(last.data) if last and last.data else {"epoch": 0}
    epoch = 1 + max(above, int(known["epoch"]))
    reply = await js.nc.request(
        subject,
        orjson.dumps({"epoch": epoch, "owner": owner}),
        timeout=5,
        headers={"Nats-Expected-Last-Subject-Sequence": str(last.sequence if last else 0)},
    )
    error = orjson.loads(reply.data).get("error")
    if error:
        raise Overtaken(f"partition {partition}: {error.get('description')}")
    return epoch


async def owner_of(js: JetStream, partition: int) -> str | None:
    """Who raised the epoch last."""
    last = await js.last_message(f"KV_{BUCKET}", f"$KV.{BUCKET}.{partition}")
    return str(orjson.loads(last.data)["owner"]) if last and last.data else None
