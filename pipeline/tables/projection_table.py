"""The table of a projection: accounts' events folded onto their documents, batch by batch.

The state is a bounded cache, read through from the generation and, where a document can't be
trusted, from the event store. The store is authoritative and versions are the fence: deliveries may
repeat, overlap, come out of order or be missing, and the documents still converge to the store.

An event that can't be folded parks its account and stops no other.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pipeline.model.events import Event
from pipeline.model.projection import account_of
from pipeline.search import Elastic, FoundDocument, Generation
from pipeline.support.correlation import about
from pipeline.tables.counters import Counters
from pipeline.tables.documents import AccountDocuments, HistoryLoader, ParkingLot
from pipeline.tables.versioned_document import DocumentCache, VersionedDocument, following, trusted

log = logging.getLogger(__name__)

CAPACITY: Final = 16_384


class _AccountStates(NamedTuple):
    """The states before a batch.

    `known`: can be folded on. `lacking`: to be loaded from the event store, over the document given
    (None: there is none). `doubted`: documents that only the event store can confirm.
    """

    known: dict[str, VersionedDocument]
    lacking: dict[str, VersionedDocument | None]
    doubted: dict[str, FoundDocument]


class ProjectionTable:
    """Applies a partition's events to a generation. For one task at a time."""

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
        """`healing`: the log level of a line about accounts loaded from the event store."""
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
        read = await self._read_through(histories)
        reconciled = await self.documents.reconcile(read.doubted)
        self._count_reconciled(reconciled.states, read.doubted, histories)
        # Before loading: the fold finds more accounts to load, those with a gap or a poison event.
        folded = self._fold(histories, read)
        # The stream may be wrong about an account, the store is not: only the store parks one.
        loaded = await self.documents.load(read.lacking, histories)
        states = reconciled.states + folded + loaded.states
        refused = await self.documents.write(states)
        self._log_unusual(reconciled.states, read.lacking, refused, histories)
        # After writing: once an account is parked, its events are skipped. Were it parked first and
        # the write failed, the repetition would leave its document behind.
        for poison in reconciled.poisons + loaded.poisons:
            await self.documents.park(poison)
        return len(states)

    def _fold(
        self, histories: Mapping[str, list[Event]], read: _AccountStates
    ) -> list[VersionedDocument]:
        """Fold events onto known states; adds accounts that need more than that to `lacking`."""
        states: list[VersionedDocument] = []
        for account, history in histories.items():
            if account in read.doubted:
                continue
            if account in read.lacking:
                self.counters.applied += len(history)
                continue
            before = read.known.get(account)
            after = self._projection.advance(before.document if before else None, history)
            self.counters.duplicates += after.duplicates
            if after.gap is not None or after.poison is not None:
                self.counters.gaps += 1
                self.counters.applied += len(history) - after.duplicates
                read.lacking[account] = before
            elif after.applied:
                self.counters.applied += after.applied
                states += following(self._projection, before, after.documents)
        return states

    def _log_unusual(
        self,
        reconciled: Iterable[VersionedDocument],
        lacking: Iterable[str],
        refused: Collection[str],
        histories: Mapping[str, Sequence[Event]],
    ) -> None:
        """Log whose events needed the event store, or were refused by Elasticsearch."""
        healed = [*lacking, *(account_of(each.document) for each in reconciled if each.raised)]
        for level, what, accounts in (
            (self._healing, "Loaded from the event store", healed),
            (logging.INFO, "Refused by Elasticsearch", refused),
        ):
            if accounts and log.isEnabledFor(level):
                events = (event for account in accounts for event in histories.get(account, ()))
                log.log(level, "%s: %d accounts", what, len(accounts), extra=about(events))

    def _by_account(self, events: Iterable[Event]) -> dict[str, list[Event]]:
        """Each account's events in order of version, none twice, and none of parked accounts or
        accounts that the projection is not about."""
        histories: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self._projection.about(events):
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

    async def _read_through(self, histories: Mapping[str, list[Event]]) -> _AccountStates:
        """Sort the accounts by where their states come from: cache, generation or event store."""
        read = _AccountStates(self._cache.known(histories), {}, {})
        # An account whose history begins with version 1 has no state before it.
        needed = {
            account: self._projection.before(account, history[0]["version"])
            for account, history in histories.items()
            if account not in read.known and history[0]["version"] > 1
        }
        found = await self.documents.found(needed.values())
        for account, document_id in needed.items():
            there = found.get(document_id)
            state = trusted(self._projection, there)
            if there is None or (self._projection.every and not _is(document_id, state)):
                self.counters.gaps += 1
                read.lacking[account] = None
            elif state is None or _hides(state, histories[account]):
                read.doubted[account] = there
            else:
                read.known[account] = state
        return read

    def _count_reconciled(
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


def _hides(state: VersionedDocument, history: Sequence[Event]) -> bool:
    """Whether a document makes duplicates of events that may be new, because its version is wrong.

    Events that reach to the document's own last event, delivered again, confirm the version.
    """
    version, last = state.document["version"], state.document["event_id"]
    return history[0]["version"] <= version and not any(
        event["version"] == version and event.get("_id") == last for event in history
    )
