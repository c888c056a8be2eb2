"""The bank's roles, and what they are compared with, as processes of their own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from benchmarks.bank import Bank
from benchmarks.checkout import HERE, Checkout
from benchmarks.machine import cpu_seconds
from pipeline.embedded.processes import Child
from pipeline.embedded.startup_checks import free_ports
from pipeline.support.settings import Settings

READY_SECONDS: Final = 120.0
BURST_SECONDS: Final = 120.0


class Burst:
    """What processes said of a burst of events, applied as fast as they could.

    From the beginning of its first batch to the end of its last one.
    """

    def __init__(self, lines: list[list[float]]) -> None:
        self.began = min(line[0] for line in lines)
        self.ended = max(line[1] for line in lines)
        self.batches = len(lines)
        self.events = sum(int(line[2]) for line in lines)
        self.documents = sum(int(line[3]) for line in lines)

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


class Process:
    """A child that tells of its batches, as `worker.tell` does; other lines are its log."""

    def __init__(
        self,
        bank: Bank,
        settings: Settings,
        module: str,
        *arguments: str,
        checkout: Checkout = HERE,
    ) -> None:
        self.lines: list[list[float]] = []
        self.log: list[str] = []
        self._module, self._said = module, ""
        self.metrics = f"http://{settings.host}:{settings.metrics_port}"
        self._children = bank.children
        self.child: Child = bank.children.start(
            module,
            [checkout.python, "-m", module, *arguments],
            env=checkout.environment(settings),
            cwd=checkout.folder,
            on_line=self._heard,
        )

    @property
    def events(self) -> int:
        """Events applied since its start."""
        return sum(int(line[2]) for line in self.lines)

    @property
    def cpu(self) -> float:
        """Processor seconds since its start."""
        return cpu_seconds(self.child.pid)

    def alive(self) -> None:
        """Raise with its log if it has ended."""
        if self.child.exit_code is not None:
            raise RuntimeError("a process of the benchmark ended:\n" + "\n".join(self.log[-30:]))

    async def ready(self, *, held: int | None = None) -> None:
        """Wait until it can work; with `held`, until it has just so many partitions."""

        async def settled() -> bool:
            async with aiohttp.ClientSession(self.metrics) as http:
                async with http.get("/readyz") as answer:
                    self._said = await answer.text()
                    ready = answer.status == 200
                if not ready or held is None:
                    return ready
                async with http.get("/metrics") as answer:
                    return f'partitions_held{{projection="balance"}} {held:.1f}' in (
                        await answer.text()
                    )

        await self.until(settled)

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Ask until it is so. Raises if that takes too long, or if the process ends."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    self.alive()
                    try:
                        if await done():
                            return
                    except (OSError, aiohttp.ClientError):
                        pass  # it does not listen yet
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise RuntimeError("\n".join([*self._late(), *self.log[-30:]])) from error

    def _late(self) -> list[str]:
        waited = f"{self._module} is not ready after {READY_SECONDS:g} s."
        return [waited, f"It last said: {self._said or 'nothing'}", "Its log:"]

    def _heard(self, line: str) -> None:
        try:
            self.lines.append([float(word) for word in line.split()])
            if len(self.lines[-1]) != 5:
                raise ValueError
        except ValueError:
            if self.lines and len(self.lines[-1]) != 5:
                self.lines.pop()
            self.log.append(line)

    async def stop(self) -> None:
        await self._children.stop(self.child)


async def burst(
    processes: list[Process], events: int, send: Callable[[], Awaitable[None]]
) -> Burst:
    """Send so many events, and wait until the processes have applied them."""
    before = [len(each.lines) for each in processes]

    def lines() -> list[list[float]]:
        return [
            line
            for each, known in zip(processes, before, strict=True)
            for line in each.lines[known:]
        ]

    await send()
    deadline = time.monotonic() + BURST_SECONDS
    while (applied := sum(line[2] for line in lines())) < events:
        for each in processes:
            each.alive()
        if time.monotonic() > deadline:
            said = "\n".join(line for each in processes for line in each.log[-30:])
            raise RuntimeError(f"{applied:.0f} of {events} events were applied:\n{said}")
        await asyncio.sleep(0.01)
    return Burst(lines())


@asynccontextmanager
async def started(
    bank: Bank, settings: Settings, module: str, *arguments: str
) -> AsyncIterator[Process]:
    """A process while the block runs. Its metrics are on a port of its own."""
    port = next(free_ports(settings.host))
    placed = settings.model_copy(update={"metrics_port": port})
    process = Process(bank, placed, module, *arguments)
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def working(bank: Bank, settings: Settings, **held: int) -> AsyncIterator[Process]:
    """A worker that is ready."""
    async with started(bank, settings, "benchmarks.worker") as worker:
        await worker.ready(**held)
        yield worker
