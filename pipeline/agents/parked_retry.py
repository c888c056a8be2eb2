"""Retrying parked accounts: the owner of an account's partition replays it on request."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.messaging.news import News
from pipeline.model.events import partition_of, slot_of
from pipeline.search import GenerationGone
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.tables.checkpoints import PositionLost

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5


class ParkedRetry:
    """Keeps a worker's list of parked accounts fresh, and replays those of its partitions."""

    def __init__(
        self, context: ProjectionContext, processors: Mapping[int, PartitionProcessor]
    ) -> None:
        self._context, self._processors = context, processors
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _follow(self) -> None:
        async with self._context.parked.news() as news:
            await Outage(log, "the parked accounts").every(0, lambda: self._round(news))

    async def _round(self, news: News) -> None:
        await self._retry()
        if any(each.retry for each in self._context.parked.all()):
            await asyncio.sleep(POLL_SECONDS)  # its partition may be ours by then
        else:
            await news.wait(POLL_SECONDS)

    async def _retry(self) -> None:
        await self._context.parked.refresh()
        for each in self._context.parked.all():
            processor = self._processors.get(
                partition_of(slot_of(each.account_id), self._context.partitions)
            )
            if each.retry and processor is not None:
                await self._replay(processor, each.account_id)

    async def _replay(self, processor: PartitionProcessor, account_id: str) -> None:
        log.info("Account %s: replaying it from the event store", account_id)
        try:
            await processor.between(lambda owned: self._replay_all(owned, account_id))
        except PositionLost:
            return  # the partition changes its owner or is acquired again: the request stays
        if account_id not in self._context.parked:
            log.info("Account %s is not parked any more", account_id)

    async def _replay_all(self, owned: OwnedPartition, account_id: str) -> None:
        # The generation being built first: an account that fails there stays parked.
        if owned.building is not None:
            with suppress(GenerationGone):
                await owned.building.table.documents.replay(account_id)
                if account_id in self._context.parked:
                    return
        await owned.live.table.documents.replay(account_id)
