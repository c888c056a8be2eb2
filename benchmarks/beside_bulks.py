"""(c), its first half: a worker's bursts, and bare bulks of the documents that come of them."""

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Final

from benchmarks.bank import Bank
from benchmarks.bulks import IN_FLIGHT, Bulks, documents_of
from benchmarks.children import Process, burst
from benchmarks.history import Folds, History
from benchmarks.stream import messages_of, publish_held
from pipeline.messaging import JetStream
from pipeline.model.names import BANK
from pipeline.model.projection import Document
from pipeline.support.settings import Settings

ACCOUNTS: Final = 10_000
PROCESSES: Final = ("worker", "nats", "elasticsearch")
"""Whose processor time is told, where they are ours."""


class Projecting:
    """Bursts for workers that wait, and the bulks of the same documents, a burst later."""

    def __init__(
        self, bank: Bank, settings: Settings, js: JetStream, worker: Process, bulks: Bulks
    ) -> None:
        self._bank, self._settings, self._js, self._bulks = bank, settings, js, bulks
        self.workers, self._folds, self._history = [worker], Folds(), History(ACCOUNTS)
        self._documents: deque[list[Document]] = deque()
        self.written: list[float] = []
        """Documents a second of each burst."""
        self.costs: dict[str, list[float]] = {}
        """Processor time for a document, µs, by who used it."""
        self.count = 0

    async def choose(self, count: int) -> dict[int, float]:
        """Find how many bulks in flight are best for the documents of bursts of `count` events;
        documents a second with each number."""
        self.count, rates = count, dict[int, float]()
        await self.worker()
        for number in (IN_FLIGHT[0], *IN_FLIGHT):  # the first one does not count
            await self.worker()
            rates[number] = await self._bulks.write(self._documents.popleft(), number)
        self._bulks.in_flight = max(rates, key=lambda number: rates[number])
        self.forget()
        return rates

    def forget(self) -> None:
        """What was noted of the bursts so far does not count."""
        self.written, self.costs = [], {}

    async def worker(self) -> float:
        """Events a second of a burst, published and then applied."""
        events, partitions = self._history.next(self.count), self._settings.partitions
        messages, before = messages_of(events, partitions), dict[str, float]()
        seen = await burst(
            self.workers,
            self.count,
            lambda: publish_held(self._js, BANK.log, messages, lambda: before.update(self._used())),
        )
        self._note("worker, ", before, seen.documents)
        batch = max(1, round(seen.events / seen.batches))
        self._documents.append(documents_of(events, partitions, batch, self._folds))
        self.written.append(seen.documents / seen.seconds)
        return seen.rate

    async def bulk(self) -> float:
        """The bulks of a burst, in documents a second."""
        documents, before = self._documents.popleft(), self._used()
        rate = await self._bulks.write(documents)
        server = {name: before[name] for name in before if name == "elasticsearch"}
        self._note("bare bulk, ", server, len(documents))
        return rate

    def ceiling(self, cores: int) -> str:
        """How many documents a second so many cores allow, by what they cost in the bursts."""
        rounds = {name: self.costs.get(f"worker, {name}", [0.0])[1:] for name in PROCESSES}
        cost = {name: statistics.median(each) if each else 0.0 for name, each in rounds.items()}
        if not all(cost.values()):
            return ""  # somebody else's server, or too short a run: nobody knows
        whole, ours = sum(cost.values()), cost["worker"]
        free, shared, alone = cores * 1e6 / (whole - ours), cores * 1e6 / whole, 1e6 / ours
        return (
            f"By the processor's time for a document, {cores} cores allow {free:,.0f} documents/s "
            f"if the worker costs nothing, and {shared:,.0f} as it is; one worker, which has one "
            f"core, does {alone:,.0f}."
        )

    def _used(self) -> dict[str, float]:
        """Processor seconds so far of those that take part and are ours."""
        used = {"worker": sum(each.cpu for each in self.workers), **self._bank.used()}
        return {name: used[name] for name in PROCESSES if name in used}

    def _note(self, prefix: str, before: Mapping[str, float], documents: int) -> None:
        for name, used in self._used().items():
            if name in before:
                cost = 1e6 * (used - before[name]) / documents
                self.costs.setdefault(prefix + name, []).append(cost)
