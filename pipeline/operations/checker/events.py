"""The invariants that hold of any application's events, and those that it declares itself."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.application import Check, Invariant
from pipeline.model.chain import Chain, chained
from pipeline.model.events import Event
from pipeline.operations.checker.report import Faults, Verdict, verdict
from pipeline.support.retry import brief


@dataclass(slots=True)
class _Run:
    """One run of an application's invariant."""

    invariant: Invariant
    check: Check
    faults: Faults = field(default_factory=Faults)

    def note(self, found: Callable[[], Iterable[str]]) -> None:
        """Ask the application, whose code may fail."""
        try:
            for fault in found():
                self.faults.add(fault)
        except Exception as error:
            self.faults.add(f"the check failed: {brief(error)}")


@dataclass(slots=True)
class CheckedEvents:
    """All events of a store, read account by account in order of version."""

    invariants: Sequence[Invariant] = ()
    accounts: int = 0
    events: int = 0
    chained: int = 0
    versions: Faults = field(default_factory=Faults)
    chains: Faults = field(default_factory=Faults)
    _runs: list[_Run] = field(default_factory=list)
    _account: str = ""
    _version: int = 0
    _chain: Chain = field(default_factory=Chain)

    async def read(self, replay: AsyncIterator[list[Event]]) -> None:
        """Check every event, in (slot, account, version) order."""
        self._runs = [_Run(each, each.begin()) for each in self.invariants]
        async for events in replay:
            for event in events:
                self._enter(event)
        for run in self._runs:
            run.note(run.check.end)

    def verdicts(self) -> Iterator[Verdict]:
        """In order of their numbers."""
        read = f"{self.events:,} events of {self.accounts:,} accounts"
        yield verdict(2, self.versions, read)
        yield verdict(16, self.chains, f"{self.chained:,} of {self.events:,} events in chains")
        for run in self._runs:
            number, title, _ = run.invariant
            yield verdict(number, run.faults, read, title)

    def _enter(self, event: Event) -> None:
        if event["account_id"] != self._account:
            self._account, self._version, self._chain = event["account_id"], 0, Chain()
            self.accounts += 1
        self.events += 1
        version, where = event["version"], f"account {self._account}, version {event['version']}"
        if version != self._version + 1:
            self.versions.add(f"{where} follows version {self._version}")
        for run in self._runs:
            run.note(lambda run=run: run.check.enter(event))  # type: ignore[misc]
        if version > self._version:  # else it is a duplicate, which no chain goes through
            self._version = version
            self.chained += chained(event)
            if wrong := self._chain.follow(event):
                self.chains.add(f"{where}: {wrong}")
