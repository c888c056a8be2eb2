"""Bare bulks: the documents of a worker's batches, encoded beforehand, sent by the same client."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import orjson

from benchmarks.history import Folds
from pipeline.banking.balance import BALANCE
from pipeline.model.events import Event, partition_of
from pipeline.model.projection import Document
from pipeline.search.client import connect

INDEX: Final = "bench-bulk"
CHUNK: Final = 500
"""Documents in one bulk."""
IN_FLIGHT: Final = (1, 2, 4, 8)


def documents_of(
    events: Sequence[Event], partitions: int, batch: int, folds: Folds
) -> list[Document]:
    """What a worker writes of the events, if each batch of a partition has `batch` of them."""
    queues: list[list[Event]] = [[] for _ in range(partitions)]
    for event in events:
        queues[partition_of(event["slot"], partitions)].append(event)
    documents: list[Document] = []
    for start in range(0, max(map(len, queues)), batch):
        for queue in queues:
            documents += folds.batch(queue[start : start + batch])
    return documents


class Bulks:
    """An index with the projection's mapping, into which each of a worker's documents goes once.

    So it holds what the worker's index holds, and documents are written over those before them.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        self.in_flight = 1

    async def make(self) -> None:
        """Make the index."""
        await self._client.indices.create(
            index=f"{INDEX}-1",
            aliases={INDEX: {}},
            mappings=BALANCE.mapping,
            settings={"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s"},
        )

    async def close(self) -> None:
        await self._client.close()

    async def write(self, documents: Sequence[Document], in_flight: int | None = None) -> float:
        """Documents a second."""
        bulks = iter([documents[i : i + CHUNK] for i in range(0, len(documents), CHUNK)])
        lines = iter([[_lines(each) for each in bulk] for bulk in bulks])

        async def client() -> None:
            for operations in lines:
                await self._client.bulk(
                    operations=operations,  # type: ignore[arg-type]
                    require_alias=True,
                    filter_path="errors,items.*.status,items.*.error.reason",
                )

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(in_flight or self.in_flight)))
        return len(documents) / (time.perf_counter() - began)


def _lines(document: Document) -> bytes:
    action = {
        "_index": INDEX,
        "_id": document["id"],
        "version": document["version"],
        "version_type": "external",
    }
    return orjson.dumps({"index": action}) + b"\n" + orjson.dumps(document)
