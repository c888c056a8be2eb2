"""A bank under rebuild: its stores, and what can be asked of its jobs and indexes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event
from pipeline.search import Elastic
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.bank import exact
from tests.harness import Role, eventually

Start = Callable[..., Awaitable[Role]]


@dataclass
class Bank:
    """One bank. Its workers drop a replaced generation after a second."""

    settings: Settings
    store: EventStore
    jobs: RebuildJobs
    elastic: Elastic
    start: Start

    async def worker(self, *words: str) -> Role:
        return await self.start("bank", "worker", *words, BANK_REBUILD_GRACE_SECONDS="1")

    async def stalled_worker(self) -> Role:
        """A worker that takes days to replay a partition: while it has one, no rebuild is done.

        It shares the partitions with workers that start later, and leaves them all when stopped.
        """
        slow = {"BANK_REBUILD_GRACE_SECONDS": "1", "BANK_REBUILD_RATE": "0.001"}
        return await self.start("bank", "worker", **slow)

    async def replaying(self, job: RebuildJob) -> RebuildJob:
        """Wait until some of the job's events are replayed."""

        async def begun() -> bool:
            await self.jobs.refresh()
            now = self.jobs.job(job.id)
            return now is not None and any(part.done for part in self.jobs.parts(now))

        await eventually(begun, seconds=60, message="some events are replayed")
        return job

    async def rebuild(self) -> RebuildJob:
        partitions = self.settings.partitions
        job, joined = await self.jobs.start("online", range(partitions), partitions)
        assert not joined
        return job

    async def over(self, job: RebuildJob, seconds: float = 180) -> RebuildJob:
        """Wait until the job is over."""
        return await self.reaches(job, "done", "cancelled", "failed", seconds=seconds)

    async def reaches(self, job: RebuildJob, *phases: str, seconds: float = 180) -> RebuildJob:
        async def reached() -> RebuildJob | None:
            await self.jobs.refresh()
            now = self.jobs.job(job.id)
            return now if now is not None and now.phase in phases else None

        found = await eventually(reached, seconds=seconds, message=f"the rebuild is {phases}")
        assert found is not None
        return found

    async def becomes_exact(self, seconds: float = 120) -> None:
        url = self.settings.elasticsearch_url
        await eventually(
            lambda: exact(url, self.store), seconds=seconds, message="exact", every=0.3
        )

    async def indexes(self) -> dict[str, set[str]]:
        """Each index of the projection with its aliases."""
        found = await self.elastic.client.indices.get_alias(index="balance-*")
        return {name: set(about["aliases"]) for name, about in found.body.items()}

    async def is_single(self, number: int) -> bool:
        """Whether generation `number` is the only one, and live."""
        return await self.indexes() == {f"balance-{number}": {"balance", f"balance-g{number}"}}


async def fill(store: EventStore, accounts: int, events: int) -> list[str]:
    """Store that many accounts of that many events each, quickly; returns their ids."""
    opened = [
        new_event(_id(n), 1, CREATED, {"owner": f"Ada {n}", "money": 9}) for n in range(accounts)
    ]
    await asyncio.gather(*(store.append(event) for event in opened))
    for version in range(2, events + 1):
        more = [_deposit(event, version) for event in opened]
        await asyncio.gather(*(store.append(event) for event in more))
    return [event["account_id"] for event in opened]


def _id(number: int) -> str:
    return f"01K{number:023d}"


def _deposit(opened: Event, version: int) -> Event:
    return new_event(opened["account_id"], version, DEPOSITED, {"money": version})


__all__ = ["Bank", "fill", "replace"]
