"""Are the guards that live in the servers what they should be (invariant 13)?

The account service looks at those in MongoDB all the time, the forwarder at the stream, workers at
aliases; this asks once, and names all that differs.
"""

import re

from pipeline.eventstore import EventStore, StoreUnguarded
from pipeline.messaging import JetStream
from pipeline.messaging.replicas import all_replicas, shortage
from pipeline.messaging.stream_guards import bucket_faults, consumer_faults, joined, log_faults
from pipeline.operations.checker.report import Faults
from pipeline.operations.keys import BUCKET as KEYS
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings


async def store_guards(store: EventStore) -> Faults:
    """What is wrong with the unique indexes and the collection, and which events keep an index from
    being built; may raise `StoreUnavailable`."""
    found = Faults()
    try:
        await store.guards.look()
    except StoreUnguarded as unguarded:
        for name, fault in unguarded.faults.items():
            found.add(f"MongoDB: {fault}")
            for duplicate in await store.duplicates(name):
                found.add(f"MongoDB: {duplicate}")
    return found


async def stream_guards(js: JetStream, settings: Settings) -> list[str]:
    """What is wrong with the stream, its consumers and the buckets; those not there are not made
    yet."""
    each, stream = settings.kept, js.names.log
    whats = [p.named(what) for p in each for what in ("partitions", "rebuild", "parked")]
    found: list[str] = []
    if (config := await js.config(stream)) is not None:
        found.append(joined(f"stream {stream}", log_faults(config)))
        found += await _consumers(js, {p.name for p in each})
    for bucket in map(js.names.bucket, (*whats, js.names.requests, KEYS)):
        if (config := await js.config(f"KV_{bucket}")) is not None:
            found.append(joined(f"bucket {bucket}", bucket_faults(config)))
    found.append(shortage(await all_replicas(js), settings.stream_replicas))
    return [f"JetStream: {fault}" for fault in found if fault]


async def alias_guards(index: IndexScan, settings: Settings) -> list[str]:
    """What is wrong with the aliases of projections, of their generations and of checkpoints; may
    raise `ProjectionUnavailable`."""
    readers = [each.alias for each in settings.kept]
    writers = [f"{each}-g*" for each in readers]
    aliases = [*readers, *writers, settings.names.checkpoints_alias]
    found = [await index.alias_faults(alias) for alias in aliases]
    return [f"Elasticsearch: {fault}" for faults in found for fault in faults]


async def _consumers(js: JetStream, topics: set[str]) -> list[str]:
    """Those of partitions; somebody may have made others, which are nobody's guard."""
    ours = re.compile(rf"({'|'.join(map(re.escape, topics))})-\d+")
    found: list[str] = []
    total, read = 1, 0
    while read < total:
        reply = await js.api(f"CONSUMER.LIST.{js.names.log}", {"offset": read})
        listed = reply["consumers"] or []
        for info in listed:
            if ours.fullmatch(info["name"]):
                found.append(joined(f"consumer {info['name']}", consumer_faults(info["config"])))
        total, read = reply["total"] if listed else 0, read + len(listed)
    return found
