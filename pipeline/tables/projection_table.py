"""The table of a projection: accounts' events folded onto their documents, batch by batch.

The state is a bounded cache, read through from the generation and, where that can't be believed,
from the event store. The truth is in the store; the version is the fence. So deliveries may repeat,
overlap, come out of order or not at all: the documents still become what the store says.

An event that can't be folded parks its account and holds up no other.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from pipeline.model.events import Event
from pipeline.model.projection import account_of
from pipeline.search import Elastic, FoundDocument, Generation
from pipeline.support.correlation import about
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments, HistoryLoader, ParkingLot
from pipeline.tables.versioned_document import DocumentCache, VersionedDocument, believed, following

log = logging.getLogger(__name__)

CAPACITY: Final = 16_384


class ProjectionTable:
    """Applies a partition's events to a generation. One task at a time may use it."""

    def __init__(
        self,
        elastic: Elastic,
        generation: Generation,
        store: HistoryLoader,
        parked: ParkingLot,
        counters: Counters,
        *,
        capacity: int = CAPACITY,
        healing: int = logging.INFO,
    ) -> None:
        """`healing`: the severity of a log line about accounts loaded from the event store."""
        self.counters, self._parked, self._healing = counters, parked, healing
        self._cache = DocumentCache(capacity)
        self._projection = generation.projection
        self.documents = AccountDocuments(elastic, generation, store, parked, counters, self._cache)

    async def apply(self, events: Sequence[Event]) -> int:
        """Bring the documents of the events' accounts to at least those events.

        Returns how many documents were to be written. Raises `GenerationGone` and the errors of
        store and parking lot; then it may be repeated.
        """
        histories = self._by_account(events)
        known, lacking, doubted = await self._read_through(histories)
        judged = await self.documents.judge(doubted)
        self._count(judged.states, doubted, histories)
        states = judged.states
        for account, history in histories.items():
            if account in doubted:
                continue
            if account in lacking:
                self.counters.applied += len(history)
                continue
            before = known.get(account)
            after = self._projection.advance(before.document if before else None, history)
            self.counters.duplicates += after.duplicates
            if after.gap is not None or after.poison is not None:
                self.counters.gaps += 1
                self.counters.applied += len(history) - after.duplicates
                lacking[account] = before
            elif after.applied:
                self.counters.applied += after.applied
                states += following(self._projection, before, after.documents)
        # The stream may be wrong about an account, the store is not: it alone parks one.
        loaded = await self.documents.load(lacking, histories)
        refused = await self.documents.write(states + loaded.states)
        healed = [*lacking, *(account_of(each.document) for each in judged.states if each.raised)]
        self._tell(self._healing, "Loaded from the event store", healed, histories)
        self._tell(logging.INFO, "Refused by Elasticsearch", refused, histories)
        for poison in judged.poisons + loaded.poisons:
            await self.documents.park(poison)
        return len(states) + len(loaded.states)

    def _tell(
        self,
        level: int,
        what: str,
        accounts: Collection[str],
        histories: Mapping[str, Sequence[Event]],
    ) -> None:
        """Log whose events met with something that is not usual."""
        if accounts and log.isEnabledFor(level):
            events = (event for account in accounts for event in histories.get(account, ()))
            log.log(level, "%s: %d accounts", what, len(accounts), extra=about(events))

    def _by_account(self, events: Iterable[Event]) -> dict[str, list[Event]]:
        """Each account's events in order of version, none twice; those of parked accounts wait."""
        histories: defaultdict[str, list[Event]] = defaultdict(list)
        for event in events:
            histories[event["account_id"]].append(event)
        for account in [account for account in histories if account in self._parked]:
            self.counters.waiting += len(histories.pop(account))
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
    ) -> tuple[
        dict[str, VersionedDocument], dict[str, VersionedDocument | None], dict[str, FoundDocument]
    ]:
        """The accounts' states; which have to be loaded from the store; and the documents that the
        store has to judge.

        A version 1 has no state before it, so it needs none.
        """
        known = self._cache.known(histories)
        lacking: dict[str, VersionedDocument | None] = {}
        doubted: dict[str, FoundDocument] = {}
        needed = {
            account: self._projection.before(account, history[0]["version"])
            for account, history in histories.items()
            if account not in known and history[0]["version"] > 1
        }
        found = await self.documents.found(needed.values())
        for account, document_id in needed.items():
            there = found.get(document_id)
            state = believed(self._projection, there)
            if there is None or (self._projection.every and not _is(document_id, state)):
                self.counters.gaps += 1
                lacking[account] = None
            elif state is None or _swallows(state, histories[account]):
                doubted[account] = there
            else:
                known[account] = state
        return known, lacking, doubted

    def _count(
        self,
        states: Iterable[VersionedDocument],
        doubted: Iterable[str],
        histories: Mapping[str, list[Event]],
    ) -> None:
        raised = {account_of(state.document): state.raised for state in states}
        self.counters.unsound += sum(raised.values())
        for account in doubted:
            if account in raised:
                self.counters.applied += len(histories[account])
            else:
                self.counters.duplicates += len(histories[account])


def _is(document_id: str, state: VersionedDocument | None) -> bool:
    return state is not None and state.document["id"] == document_id


def _swallows(state: VersionedDocument, history: Sequence[Event]) -> bool:
    """Whether a document that nobody has vouched for makes duplicates of events that may be new.

    Delivered again up to the document's own last event, they vouch for it.
    """
    version, last = state.document["version"], state.document["event_id"]
    return history[0]["version"] <= version and not any(
        event["version"] == version and event.get("_id") == last for event in history
    )
