"""On how many servers each stream and bucket of an application is, and changing that live."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.errors import Error as NatsError

from pipeline.messaging.client import JetStream
from pipeline.messaging.values import JetStreamError


@dataclass(frozen=True, slots=True)
class Replicas:
    """A stream, and how many replicas its configuration asks for; None if no leader answers for it.

    `current`: so many servers have all of it; the leader is one. `leader` is also None where there
    is a lone server.
    """

    stream: str
    count: int | None = None
    current: int = 0
    leader: str | None = None

    def are(self, count: int) -> bool:
        """Whether so many are asked for, and all of them have all there is."""
        return self.count == self.current == count


async def streams(js: JetStream) -> list[str]:
    """The names of the application's streams, buckets among them, in order."""
    names: list[str] = []
    total = 1
    while len(names) < total:
        reply = await js.api("STREAM.NAMES", {"offset": len(names)})
        found: list[str] = reply["streams"] or []
        names += found
        total = reply["total"] if found else 0
    return sorted(filter(js.names.owns_stream, names))


async def replicas_of(js: JetStream, stream: str, seconds: float = 5.0) -> Replicas:
    """Those of one stream."""
    try:
        async with asyncio.timeout(seconds):
            info = await js.stream_info(stream)
    except (NatsError, JetStreamError, OSError):
        return Replicas(stream)
    return _replicas(stream, info)


async def all_replicas(js: JetStream, seconds: float = 5.0) -> list[Replicas]:
    """Those of every stream and bucket of the application."""
    names = await streams(js)
    return await asyncio.gather(*(replicas_of(js, name, seconds) for name in names))


async def change(js: JetStream, stream: str, count: int) -> None:
    """Ask for so many; servers that get the stream begin to copy it. Raises `TooManyReplicas`."""
    config = (await js.stream_info(stream))["config"]
    if config["num_replicas"] != count:
        await js.api(f"STREAM.UPDATE.{stream}", {**config, "num_replicas": count})


def shortage(found: list[Replicas], wanted: int) -> str:
    """What has fewer replicas than the setting asks for, in a line; "" if nothing has."""
    short = [each for each in found if each.count is not None and each.count < wanted]
    if not short:
        return ""
    names = ", ".join(f"{each.stream} has {each.count}" for each in short)
    return (
        f"BANK_STREAM_REPLICAS is {wanted}, but {names}: "
        f"`bank replicas {wanted}` gives all of them as many"
    )


def _replicas(stream: str, info: Mapping[str, Any]) -> Replicas:
    cluster: Mapping[str, Any] = info.get("cluster") or {}
    others = sum(
        bool(peer["current"]) and not peer.get("offline") for peer in cluster.get("replicas") or []
    )
    leader = cluster.get("leader") if "name" in cluster else None
    return Replicas(stream, info["config"]["num_replicas"], others + 1, leader)
