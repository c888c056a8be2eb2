"""`GET /partitions` and the lag in `/metrics`, both from a reading that is a second old at most."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from aiohttp import web

from api.balances.connections import Connections
from api.replies import reply
from pipeline.metrics import Metric
from pipeline.onlooker import Onlooker
from pipeline.partition_metrics import families
from pipeline.partition_status import Partitions, Reading
from pipeline.settings import Settings
from pipeline.snapshot import Snapshot

routes = web.RouteTableDef()


class PartitionSnapshot:
    """The partitions for the service's lifetime, and a collector of their metrics."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._onlooker = Onlooker(settings, connections.connected, lambda: connections.store)
        self._snapshot = Snapshot(Partitions(self._onlooker, settings.partitions).read)
        self._latest: Reading | None = None

    async def now(self) -> Reading:
        self._latest = await self._snapshot.get()
        return self._latest

    async def refresh(self) -> None:
        """Before a scrape. Nothing is shown rather than what is old."""
        try:
            await self.now()
        except BaseException:
            self._latest = None
            raise

    def collect(self) -> Iterator[Metric]:
        return families(self._latest.partitions if self._latest else [])

    async def close(self) -> None:
        await self._snapshot.close()
        await self._onlooker.close()


SNAPSHOT: Final = web.AppKey("partitions", PartitionSnapshot)


@routes.get("/partitions")
async def partitions(request: web.Request) -> web.Response:
    """All of them. What is null is unknown, and said why, or is not there."""
    reading = await request.app[SNAPSHOT].now()
    return reply({"data": [asdict(each) for each in reading.partitions]})
