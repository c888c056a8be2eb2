"""An event store in memory, for tests of commands without a server.

Like MongoDB it keeps events as BSON, refuses a version or a key that is taken, stores several
events together or not at all, and gives way to other tasks at each call: tasks that execute
commands at the same time meet here as they do there.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from secrets import token_bytes
from typing import Any, Final

from pipeline.commands.command_store import Finish
from pipeline.eventstore import AppendResult, KeyTaken, VersionConflict
from pipeline.eventstore.account_reader import placed, readable
from pipeline.eventstore.write_results import decode, encode
from pipeline.model.derived import before_upcast
from pipeline.model.events import Event
from pipeline.model.personal import KEY_BYTES, Subject, SubjectKey, is_encrypted, opened
from pipeline.model.upcasters import upcast

_LIST: Final = 1000
"""Events in a list of a walk."""


class InMemoryEventStore:
    """What the write engine uses of `EventStore`, with the same results and refusals.

    Any number of command services of this process may share one. It never fails.
    """

    def __init__(self) -> None:
        self.guards, self.snapshots, self.keys = _Guards(), _Snapshots(), _SubjectKeys()
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
        found = {key: upcast(decode(self._keys[key])) for key in keys if key in self._keys}
        return dict(zip(found, self.keys.readable(found.values()), strict=True))

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        """The events of an aggregate above the version `after`, in version order."""
        await asyncio.sleep(0)
        return self.keys.readable(readable(self._above(account_id, after)))

    async def snapshot_and_keys(
        self, account_id: str
    ) -> tuple[dict[str, Any] | None, Subject | None]:
        """The snapshot that was kept last, and the subject's keys."""
        await asyncio.sleep(0)
        return self.snapshots.copy(account_id), self.keys.there([account_id]).get(account_id)

    async def walk(
        self,
        account_id: str,
        *,
        after: int = 0,
        to: int | None = None,
        keys: Mapping[str, Subject] | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        """The events above `after`, up to `to`, in lists of at most a thousand."""
        await asyncio.sleep(0)
        found = self.keys.readable(readable(self._above(account_id, after)))
        wanted = [event for event in found if to is None or event["version"] <= to]
        for start in range(0, len(wanted), _LIST):
            yield wanted[start : start + _LIST]

    async def page(self, account_id: str, *, after: int, limit: int) -> list[Event]:
        """Up to `limit` events above the version `after`, in the schema in which they are
        stored."""
        await asyncio.sleep(0)
        found = placed(self._above(account_id, after))[:limit]
        return [*map(before_upcast, self.keys.readable(found))]

    async def head(self, account_id: str) -> int:
        """The newest version of an aggregate, 0 if there is none."""
        await asyncio.sleep(0)
        return max((each["version"] for each in placed(self._above(account_id, 0))), default=0)

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
        return self.copy(aggregate_id)

    def copy(self, aggregate_id: str) -> dict[str, Any] | None:
        """The same, at once."""
        return deepcopy(self._snapshots.get(aggregate_id))

    def keep(self, snapshot: dict[str, Any], finish: Finish | None = None) -> None:
        """Keep a copy in place of the last one; one that must be encrypted is not kept."""
        if finish is None:
            self._snapshots[snapshot["_id"]] = deepcopy(snapshot)

    async def remove(self, aggregate_id: str) -> None:
        """Keep none."""
        self._snapshots.pop(aggregate_id, None)


class _SubjectKeys:
    """As the collection has them."""

    def __init__(self) -> None:
        self._subjects: dict[str, Subject] = {}

    async def known(self, subjects: Collection[str]) -> dict[str, Subject]:
        """Those there are."""
        await asyncio.sleep(0)
        return self.there(subjects)

    find = known

    def there(self, subjects: Collection[str]) -> dict[str, Subject]:
        """The same, at once."""
        return {each: self._subjects[each] for each in subjects if each in self._subjects}

    async def obtain(self, subject: str, since: int) -> SubjectKey:
        """The key, made if there is none. Raises `VersionConflict` for one that is forgotten."""
        await asyncio.sleep(0)
        forgotten, keys = self._subjects.get(subject, Subject(0, {}))
        if forgotten > since:
            raise VersionConflict(subject, forgotten)
        if since not in keys:
            keys = {**keys, since: token_bytes(KEY_BYTES)}
            self._subjects[subject] = Subject(forgotten, keys)
        return SubjectKey(since, keys[since])

    async def forget(self, subject: str, since: int) -> bool:
        """Delete the key of what was before that version; whether there was one."""
        await asyncio.sleep(0)
        forgotten, keys = self._subjects.get(subject, Subject(0, {}))
        left = {each: key for each, key in keys.items() if each >= since}
        self._subjects[subject] = Subject(max(since, forgotten), left)
        return len(left) < len(keys)

    def readable(self, events: Iterable[Event]) -> list[Event]:
        """The events as readers have them."""
        return [
            opened(each, self._subjects.get(each["account_id"])) if is_encrypted(each) else each
            for each in events
        ]
