"""Retrying parked accounts: whoever owns an account's partition replays it when somebody asks."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from pipeline.agents.context import OwnedPartition, ProjectionContext
from pipeline.agents.partition_processor import PartitionProcessor
from pipeline.model.events import partition_of, slot_of
from pipeline.search import GenerationGone
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from pipeline.tables.checkpoints import PositionLost

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5


class ParkedRetry:
    """Keeps a worker's view of the parked accounts, and carries out the retries that are its."""

    def __init__(
        self, context: ProjectionContext, processors: Mapping[int, PartitionProcessor]
    ) -> None:
        self._context, self._processors = context, processors
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        outage, attempt = Outage(log, "the parked accounts"), 0
        while True:
            try:
                await self._context.parked.refresh()
                await self._retry()
            except Exception as error:
                await outage.pause(error, attempt)
                attempt += 1
            else:
                outage.over()
                attempt = 0
                await asyncio.sleep(LOOK_SECONDS)

    async def _retry(self) -> None:
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
        except (
            PositionLost
        ):  # the partition is another's, or is acquired again: whoever has it then does it
            return
        if account_id not in self._context.parked:
            log.info("Account %s is parked no more", account_id)

    async def _replay_all(self, owned: OwnedPartition, account_id: str) -> None:
        """A generation being built comes first: what it refuses is parked still."""
        if owned.building is not None:
            with suppress(GenerationGone):
                await owned.building.table.documents.replay(account_id)
                if account_id in self._context.parked:
                    return
        await owned.live.table.documents.replay(account_id)
