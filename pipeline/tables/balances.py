"""The table of balances: a partition's documents in one generation, and the one way to write them.

The state is a bounded cache, read through from the generation and, where that can't be believed,
from the event store. The truth is in the store; the version is the fence. So deliveries may repeat,
overlap, come out of order or not at all: the documents still become what the store says.
"""

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from pipeline.events import Event
from pipeline.index import Elastic, Found, Outcome, Write
from pipeline.outage import Outage
from pipeline.projection import ERA, Document, advance, fold_all, sound
from pipeline.tables.counters import Counters

log = logging.getLogger(__name__)

CAPACITY: Final = 16_384


class Histories(Protocol):
    """What the table needs of the event store."""

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]: ...


class State(NamedTuple):
    """A document and the era of its `_version`."""

    era: int
    document: Document

    def write(self) -> Write:
        document = self.document
        return Write(document["id"], self.era * ERA + document["version"], document)


class Balances:
    """Applies a partition's events to a generation. One task at a time may use it."""

    def __init__(
        self,
        elastic: Elastic,
        alias: str,
        partition: int,
        store: Histories,
        counters: Counters,
        *,
        capacity: int = CAPACITY,
    ) -> None:
        self.partition, self.alias, self.counters = partition, alias, counters
        self._elastic, self._store, self._capacity = elastic, store, capacity
        self._cache: OrderedDict[str, State] = OrderedDict()
        self._outage = Outage(log, f"documents of partition {partition}")

    async def apply(self, events: Sequence[Event]) -> int:
        """Bring the documents of the events' accounts to at least those events.

        Returns how many documents were written. Raises as `prepare` and `write` do.
        """
        states = await self.prepare(events)
        await self.write(states)
        return len(states)

    async def prepare(self, events: Sequence[Event]) -> list[State]:
        """The states to write for the events; from here on the cache takes them as written.

        Raises `GenerationGone`, the store's errors, and `Unfoldable` for an event that is none;
        then nothing is prepared.
        """
        histories = self._by_account(events)
        known, eras = await self._read_through(histories)
        states: list[State] = []
        for account, history in histories.items():
            if account in eras:
                self.counters.applied += len(history)
                continue
            era, before = known.get(account, (0, None))
            after, applied, duplicates, gap = advance(before, history, self.partition)
            self.counters.duplicates += duplicates
            if gap:
                self.counters.gaps += 1
                self.counters.applied += len(history) - duplicates
                eras[account] = era
            elif applied and after is not None:
                self.counters.applied += applied
                states.append(State(era, after))
        if eras:
            states += await self._load(eras, histories)
        for state in states:
            self._keep(state)
        return states

    async def write(self, states: Sequence[State]) -> None:
        """Write until every document is there, or a newer one of its account.

        Raises `GenerationGone` and the store's errors; then the states are forgotten, and may be
        prepared or written again. What is prepared meanwhile may overtake it: versions decide.
        """
        try:
            await self._write(states)
        except BaseException:
            for state in states:
                self._cache.pop(state.document["id"], None)
            raise

    async def _write(self, states: Sequence[State]) -> None:
        left, attempt = states, 0
        while left:
            outcome = await self._elastic.bulk(self.alias, [state.write() for state in left])
            self.counters.documents += len(left) - len(outcome.conflicts) - len(outcome.rejected)
            # The era's step doubles: a tombstone hides its `_version`, and a hand may write any.
            again = await self._settle([left[i] for i in outcome.conflicts], 1 << attempt)
            if outcome.rejected:
                again += [left[i] for i in outcome.rejected]
                await self._report(left, outcome, attempt)
            left, attempt = again, min(attempt + 1, 20)

    async def found(self, ids: Sequence[str]) -> dict[str, Found]:
        """The documents as the generation has them, believable or not."""
        return await self._elastic.mget(self.alias, ids)

    def _by_account(self, events: Sequence[Event]) -> dict[str, list[Event]]:
        """Each account's events in order of version, none twice."""
        histories: dict[str, list[Event]] = {}
        for event in events:
            histories.setdefault(event["account_id"], []).append(event)
        for account, history in histories.items():
            highest = 0
            for event in history:
                if event["version"] <= highest:
                    histories[account] = self._sorted(history)
                    break
                highest = event["version"]
        return histories

    def _sorted(self, history: list[Event]) -> list[Event]:
        by_version: dict[int, Event] = {}
        for event in history:
            version = event["version"]
            if version in by_version:
                self.counters.duplicates += 1
            elif by_version and version < max(by_version):
                self.counters.reordered += 1
            by_version.setdefault(version, event)
        return [by_version[version] for version in sorted(by_version)]

    async def _read_through(
        self, histories: Mapping[str, list[Event]]
    ) -> tuple[dict[str, State], dict[str, int]]:
        """The accounts' states; and which have to be loaded from the store, for what era.

        A version 1 has no state before it, so it needs none.
        """
        known = {account: self._cache[account] for account in histories if account in self._cache}
        eras: dict[str, int] = {}
        needed = [
            account
            for account, history in histories.items()
            if account not in known and history[0]["version"] > 1
        ]
        found = await self.found(needed) if needed else {}
        for account in needed:
            there = found.get(account)
            if there is not None and sound(there.version, there.source):
                known[account] = _state(there)
            elif there is None:
                self.counters.gaps += 1
                eras[account] = 0
            else:
                self.counters.unsound += 1
                eras[account] = there.version // ERA + 1
        return known, eras

    async def _load(
        self, eras: Mapping[str, int], histories: Mapping[str, list[Event]] | None = None
    ) -> list[State]:
        """The accounts' states from the store, each with the era it is to be written with."""
        stored = await self._store.load_many(list(eras))
        states = []
        for account, era in eras.items():
            document = fold_all(stored[account], self.partition)
            wanted = histories[account][-1]["version"] if histories else 1
            if document is None or document["version"] < wanted:
                # The store is the truth: what it does not know is not shown.
                log.error("version %d of account %s is not in the event store", wanted, account)
            if document is not None:
                states.append(State(era, document))
        return states

    async def _settle(self, conflicts: Sequence[State], step: int) -> list[State]:
        """Look at what refused our documents; return what is to be written again.

        Sound and at least as new is success. Sound and older, but of a higher era, is overwritten
        in that era. Anything else was made by hand: the store's state gets a higher era.
        """
        if not conflicts:
            return []
        found = await self.found([state.document["id"] for state in conflicts])
        again: list[State] = []
        repairs: dict[str, int] = {}
        for state in conflicts:
            account, there = state.document["id"], found.get(state.document["id"])
            if there is None:
                repairs[account] = state.era + step
            elif not sound(there.version, there.source) or _contradicts(there, state):
                repairs[account] = max(state.era, there.version // ERA) + 1
            elif there.source["version"] < state.document["version"]:
                again.append(State(there.version // ERA, state.document))
            else:
                self._keep(_state(there))
        if repairs:
            self.counters.repaired += len(repairs)
            again += await self._load(repairs)
        for state in again:
            self._keep(state)
        return again

    async def _report(self, states: Sequence[State], outcome: Outcome, attempt: int) -> None:
        """A document that Elasticsearch will not have is not dropped: it is tried for ever."""
        self.counters.rejected += len(outcome.rejected)
        i, reason = next(iter(outcome.rejected.items()))
        refused = f"{states[i].document['id']} refused: {reason} ({len(outcome.rejected)} like it)"
        await self._outage.pause(ValueError(refused), attempt)

    def _keep(self, state: State) -> None:
        account = state.document["id"]
        known = self._cache.get(account)
        if (
            known is None
            or known.era < state.era
            or known.document["version"] <= state.document["version"]
        ):
            self._cache[account] = state
        self._cache.move_to_end(account)
        if len(self._cache) > self._capacity:
            self._cache.popitem(last=False)


def _state(found: Found) -> State:
    return State(found.version // ERA, found.source)  # type: ignore[arg-type]


def _contradicts(there: Found, state: State) -> bool:
    """Whether a sound document can't be one that refused ours in good order."""
    if there.source["version"] == state.document["version"]:
        return there.source != state.document
    return there.version < state.era * ERA
