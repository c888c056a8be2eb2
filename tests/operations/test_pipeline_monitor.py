"""How often the event store is asked for the number of its events."""

import asyncio
from typing import Any, cast

import pytest

from pipeline.eventstore import StoreUnavailable
from pipeline.operations.status.pipeline_monitor import PipelineMonitor
from pipeline.operations.status.reader import StatusReader
from pipeline.support.settings import Settings


class Counting:
    """A store that counts its events one by one."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.counts, self.up = seconds, 0, True

    async def estimate(self) -> int:
        await self.ping()
        await asyncio.sleep(self.seconds)
        self.counts += 1
        return self.counts

    async def ping(self) -> None:
        if not self.up:
            raise StoreUnavailable("down")


async def test_a_store_that_counts_slowly_is_left_to_its_work() -> None:
    store = Counting(0.2)
    overseer = overseer_of(store)
    for _ in range(10):
        assert (await overseer._stored()).events == 1
    store.up = False
    with pytest.raises(StoreUnavailable):  # what is known of it hides nothing
        await overseer._stored()
    await overseer.close()


async def test_one_that_knows_is_asked_each_time() -> None:
    store = Counting(0)
    overseer = overseer_of(store)
    for number in range(1, 4):
        assert (await overseer._stored()).events == number
        await asyncio.sleep(0.05)
    await overseer.close()


def overseer_of(store: Counting) -> PipelineMonitor:
    return PipelineMonitor(Settings(), {}, cast(StatusReader, None), lambda: cast(Any, store))
