"""An event store in memory, for tests of commands without a server.

Like MongoDB it keeps events as BSON, refuses a version or a key that is taken, stores several
events together or not at all, and gives way to other tasks at each call: tasks that execute
commands at the same time meet here as they do there.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from pipeline.eventstore import AppendResult, KeyTaken, VersionConflict
from pipeline.eventstore.account_reader import placed, readable
from pipeline.eventstore.write_results import decode, encode
from pipeline.model.events import Event
from pipeline.model.upcasters import upcast

_LIST: Final = 1000
"""Events in a list of a walk."""


class InMemoryEventStore:
    """What the write engine uses of `EventStore`, with the same results and refusals.

    Any number of command services of this process may share one. It never fails.
    """

    def __init__(self) -> None:
        self.guards, self.snapshots = _Guards(), _Snapshots()
        self._accounts: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
        self._ids: set[str] = set()
        self._keys: dict[str, bytes] = {}

    async def setup(self, *, replace: bool = True) -> None:
        """Nothing to do."""

    async def ping(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: the events stay, for whoever opens it again."""

    async def append(self, *events: Event, epoch: int | None = None) -> None:
        """Store all of the events or none; raises `VersionConflict` and `KeyTaken`."""
        documents = [bytes(encode(event).raw) for event in events]
        await asyncio.sleep(0)
        if self._ids.issuperset(event["_id"] for event in events):
            return
        for at, event in enumerate(events):
            if (refusal := self._refusal(event)) is not None:
                for stored in events[:at]:
                    self._remove(stored)
                raise refusal
            self._put(event, documents[at])

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        """Store consecutive events of one aggregate up to the first that is refused."""
        await asyncio.sleep(0)
        for at, event in enumerate(events):
            try:
                document = bytes(encode(event).raw)
            except Exception as error:
                return AppendResult(at, error)
            if event["_id"] in self._ids:
                continue
            if (refusal := self._refusal(event)) is not None:
                return AppendResult(at, refusal)
            self._put(event, document)
        return AppendResult(len(events))

    async def under_keys(self, keys: Sequence[str]) -> dict[str, Event]:
        """The events with these idempotency keys, by key."""
        await asyncio.sleep(0)
        return {key: upcast(decode(self._keys[key])) for key in keys if key in self._keys}

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        """The events of an aggregate above the version `after`, in version order."""
        await asyncio.sleep(0)
        return readable(self._above(account_id, after))

    async def walk(
        self, account_id: str, *, after: int = 0, to: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        """The events above `after`, up to `to`, in lists of at most a thousand."""
        await asyncio.sleep(0)
        found = readable(self._above(account_id, after))
        wanted = [event for event in found if to is None or event["version"] <= to]
        for start in range(0, len(wanted), _LIST):
            yield wanted[start : start + _LIST]

    async def page(self, account_id: str, *, after: int, limit: int) -> list[Event]:
        """Up to `limit` events above the version `after`, as they are stored."""
        await asyncio.sleep(0)
        return placed(self._above(account_id, after))[:limit]

    async def count(self) -> int:
        """The number of all events."""
        return len(self._ids)

    def _above(self, account_id: str, after: int) -> list[Event]:
        versions = self._accounts.get(account_id, {})
        return [decode(versions[version]) for version in sorted(versions) if version > after]

    def _refusal(self, event: Event) -> Exception | None:
        if event["version"] in self._accounts[event["account_id"]]:
            return VersionConflict(event["account_id"], event["version"])
        key = event.get("idempotency_key")
        return KeyTaken(key) if key is not None and key in self._keys else None

    def _put(self, event: Event, document: bytes) -> None:
        self._accounts[event["account_id"]][event["version"]] = document
        self._ids.add(event["_id"])
        if (key := event.get("idempotency_key")) is not None:
            self._keys[key] = document

    def _remove(self, event: Event) -> None:
        del self._accounts[event["account_id"]][event["version"]]
        self._ids.remove(event["_id"])
        self._keys.pop(event.get("idempotency_key", ""), None)


class _Guards:
    """Nobody can take them away."""

    epoch = 0
    faults: Mapping[str, str] | None = {}

    def check(self) -> None:
        """All is well."""

    async def look(self) -> None:
        """All is well."""

    async def require_whole(self) -> None:
        """All is well."""


class _Snapshots:
    """One for each aggregate."""

    def __init__(self) -> None:
        self._snapshots: dict[str, dict[str, Any]] = {}

    async def find(self, aggregate_id: str) -> dict[str, Any] | None:
        """A copy of the snapshot that was kept last."""
        await asyncio.sleep(0)
        return deepcopy(self._snapshots.get(aggregate_id))

    def keep(self, snapshot: dict[str, Any]) -> None:
        """Keep a copy in place of the last one."""
        self._snapshots[snapshot["_id"]] = deepcopy(snapshot)
