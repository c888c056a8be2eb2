"""Worker processes by name, and who has which partition in Redis, watched while they run."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from pipeline.banking.balance import BALANCE
from pipeline.coordination.partition_leases import PartitionLeases, name_of
from pipeline.search import Elastic, Generation, GenerationGone
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import checkpoint_id
from tests.harness import Role, eventually
from tests.names import ALIAS

HERTZ = 20


class Fleet:
    """Workers `w1`, `w2`, … of one bank, those that join being told `environ`, too.

    `role` is the fixture of that name.
    """

    def __init__(self, settings: Settings, role: Callable[..., Awaitable[Role]]) -> None:
        self.settings = settings
        self.partitions = settings.partitions
        self.workers: dict[str, Role] = {}
        self.environ: dict[str, str] = {}
        self._role = role
        self._leases = PartitionLeases(settings.redis_url, "watcher", settings.lease_seconds)
        self._count = 0

    async def join(self, count: int = 1) -> None:
        for _ in range(count):
            self._count += 1
            name = f"w{self._count}"
            self.workers[name] = await self._role("bank", "worker", "--id", name, **self.environ)

    async def leave(self, name: str) -> Role:
        """SIGTERM; returns the worker that was."""
        worker = self.workers.pop(name)
        assert await worker.stop() == 0, worker.log()
        return worker

    async def kill(self, name: str) -> None:
        await self.workers.pop(name).kill(signal.SIGKILL)

    async def owners(self) -> list[str | None]:
        """Names of the owners by partition, as the leases have it."""
        view = await self._leases.read(self.partitions)
        return [owner and name_of(owner) for owner in view.owners]

    async def close(self) -> None:
        await self._leases.close()

    async def has(self, *shares: int, seconds: float = 60) -> None:
        """Wait until the live workers have these shares, the largest first."""

        async def settled() -> bool:
            counts = Counter(await self.owners())
            return sorted((counts[name] for name in self.workers), reverse=True) == list(shares)

        await eventually(settled, seconds=seconds, message=f"shares {shares}")


class Watched:
    """What the watch saw: the longest time that a partition had no owner, in seconds."""

    def __init__(self, partitions: int) -> None:
        self.longest = [0.0] * partitions
        self.samples = 0
        self._since: list[float | None] = [None] * partitions

    def see(self, owners: list[str | None]) -> None:
        now = time.monotonic()
        self.samples += 1
        for partition, owner in enumerate(owners):
            since = self._since[partition]
            self._since[partition] = None if owner else since or now
            self.longest[partition] = max(self.longest[partition], now - (since or now))


@asynccontextmanager
async def watching(fleet: Fleet) -> AsyncIterator[Watched]:
    """Watch the leases while the block runs; a dead owner is none."""
    watched = Watched(fleet.partitions)

    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            owners = await fleet.owners()
            watched.see([owner if owner in fleet.workers else None for owner in owners])
            await asyncio.sleep(1 / HERTZ)

    task = asyncio.create_task(watch())
    try:
        yield watched
    finally:
        stop.set()
        await task


class Claims:
    """Checkpoints as they change: (epoch, owner) by partition, every one that was seen."""

    def __init__(self) -> None:
        self.seen: dict[int, list[tuple[int, str]]] = {}

    def note(self, partition: int, epoch: int, owner: str) -> None:
        history = self.seen.setdefault(partition, [])
        if not history or history[-1] != (epoch, owner):
            history.append((epoch, owner))

    def owners(self) -> dict[int, str]:
        """Names of the owners whose checkpoints are the last ones."""
        return {partition: name_of(history[-1][1]) for partition, history in self.seen.items()}

    def fenced(self) -> bool:
        """No checkpoint of an epoch was written after one of a higher epoch: none is seen twice."""
        epochs = [[epoch for epoch, _ in history] for history in self.seen.values()]
        return all(seen == sorted(set(seen)) for seen in epochs)


@asynccontextmanager
async def claims(url: str, partitions: int, generation: int = 1) -> AsyncIterator[Claims]:
    """Read all checkpoints of a generation while the block runs, about ten times a second."""
    noted, elastic = Claims(), Elastic(url)
    ids = {
        checkpoint_id(Generation(generation, "", BALANCE), p, partitions): p
        for p in range(partitions)
    }

    stop = asyncio.Event()

    async def read() -> None:
        while not stop.is_set():
            with suppress(GenerationGone):  # not made yet
                for key, found in (await elastic.mget(ALIAS, list(ids))).items():
                    noted.note(ids[key], found.source["epoch"], found.source["owner"])
            await asyncio.sleep(0.1)

    task = asyncio.create_task(read())
    try:
        yield noted
    finally:
        stop.set()
        await task
        await elastic.close()
