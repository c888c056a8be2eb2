"""(g) One, two and four workers on one bank, and which part of the machine they fill."""

from contextlib import AsyncExitStack
from typing import Final

from benchmarks.bank import Bank
from benchmarks.children import Process, burst, started
from benchmarks.figures import Figure, Result
from benchmarks.history import History
from benchmarks.machine import machine
from benchmarks.size import Size
from benchmarks.stream import connected, messages_of, publish_held
from pipeline.coordination.partitioning import ensure_log
from pipeline.messaging import JetStream
from pipeline.model.names import BANK
from pipeline.support.settings import Settings

TITLE: Final = "Scaling"
ACCOUNTS: Final = 10_000


class Scaling:
    """Bursts for all the workers there are, and how many cores each part of the bank used."""

    def __init__(self, bank: Bank, settings: Settings, js: JetStream, count: int) -> None:
        self._bank, self._settings, self._js, self._count = bank, settings, js, count
        self._history = History(ACCOUNTS)
        self.workers: list[Process] = []
        self.cores: dict[str, list[float]] = {}

    async def settle(self) -> None:
        """Wait until all workers have as many partitions as each other."""
        share, rest = divmod(self._settings.partitions, len(self.workers))
        assert not rest, "the partitions are to be shared evenly"
        for worker in self.workers:
            await worker.ready(held=share)
        self.cores = {}

    async def round(self) -> float:
        """Events a second of all together."""
        messages = messages_of(self._history.next(self._count), self._settings.partitions)
        before: dict[str, float] = {}
        seen = await burst(
            self.workers,
            self._count,
            lambda: publish_held(self._js, BANK.log, messages, lambda: before.update(self._used())),
        )
        for name, used in self._used().items():
            self.cores.setdefault(name, []).append((used - before[name]) / seen.seconds)
        return seen.rate

    def _used(self) -> dict[str, float]:
        """Processor seconds so far."""
        return {"workers": sum(each.cpu for each in self.workers), **self._bank.used()}


async def measure(bank: Bank, size: Size) -> Result:
    settings, result = await bank.fresh(), Result()
    rates: list[Figure] = []
    async with AsyncExitStack() as stack:
        js = await stack.enter_async_context(connected(settings))
        await ensure_log(js, settings)
        work = Scaling(bank, settings, js, size.projected)
        for number in size.workers:
            while len(work.workers) < number:
                child = started(bank, settings, "benchmarks.worker")
                work.workers.append(await stack.enter_async_context(child))
            await work.settle()
            each = [await work.round() for _ in range(size.rounds + 1)][1:]
            rates.append(result.add(f"{number} worker{'s' * (number > 1)}", "events/s", each))
            for name, cores in work.cores.items():
                result.add(f"cores used by {name}, with {number}", "cores", cores[1:])
    for figure, number in zip(rates[1:], size.workers[1:], strict=True):
        result.compare(f"{number} workers / 1", figure, rates[0])
    result.notes.append(_saturation(result, size.workers))
    return result


def _saturation(result: Result, workers: tuple[int, ...]) -> str:
    """What the cores were busy with when there were most workers."""
    prefix, suffix = "cores used by ", f", with {workers[-1]}"
    used = {
        each.name.removeprefix(prefix).removesuffix(suffix): each.median
        for each in result.figures
        if each.name.startswith(prefix) and each.name.endswith(suffix)
    }
    cores, told = machine()["cores"], max(used, key=lambda name: used[name])
    shares = ", ".join(f"{name} {share:.2f}" for name, share in used.items())
    return (
        f"With {workers[-1]} workers the bank used {sum(used.values()):.1f} of {cores} cores "
        f"({shares}), most of them {told}. Workers were added one after another, so the rounds "
        "of each number follow one another."
    )
