"""Forgetting a subject: the event that says so, and then the end of its key.

The event comes first. What follows it is decided on states without personal fields, and encrypted
by another key; and each projection comes to it in its order. When the key is deleted, nobody needs
what it has encrypted any more. Killed in between, the same call goes on where it was.

An aggregate whose key is lost can be forgotten too, and is readable again.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import AggregateNotFound
from pipeline.commands.execution import Done
from pipeline.model.aggregate import Aggregate
from pipeline.model.derived import is_opened
from pipeline.model.events import Event
from pipeline.model.personal import has_any, is_encrypted


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done, and what stays.

    `version`: of the event that says it; `said`: whether it was said now; `deleted`: whether a key
    was deleted now. Of the events before it, `encrypted` had their fields encrypted, and `clear`
    have them in clear for ever.
    """

    id: str
    version: int
    said: bool
    deleted: bool
    encrypted: int
    clear: int


@dataclass(slots=True)
class _Seen:
    """What its events have of a subject; `version` of the last, `personal` of the last that has
    such fields. `lost`: some can't be decrypted, although nothing was forgotten."""

    version: int = 0
    forgotten: int = 0
    personal: int = 0
    encrypted: int = 0
    clear: int = 0
    lost: bool = False

    def enter(self, event: Event, personal: Mapping[str, Collection[str]], forgotten: str) -> None:
        self.version, kind, body = event["version"], str(event.get("kind")), event.get("body")
        fields = personal.get(kind, ()) if isinstance(body, Mapping) else ()
        if kind == forgotten:
            self.forgotten = self.version
        elif is_encrypted(event):
            self.encrypted += 1
            self.personal = self.version
            self.lost = self.lost or not is_opened(event)
        elif has_any(event["body"], fields):
            self.clear += 1
            self.personal = self.version


async def forget(
    store: CommandStore,
    aggregate: Aggregate[Any, Any],
    aggregate_id: str,
    say: Callable[[], Awaitable[Done[Any]]],
) -> Forgotten:
    """Forget the aggregate's personal fields. `say` executes `FORGET` on it.

    Raises `ValueError` if such aggregates have none, `AggregateNotFound`, what `say` raises, and
    `StoreUnavailable`; then it may be repeated.
    """
    if not aggregate.personal:
        raise ValueError(f"{aggregate.name} has no personal fields")
    seen = await _seen(store, aggregate, aggregate_id)
    if not seen.version:
        raise AggregateNotFound(aggregate_id=aggregate_id)
    if seen.lost:  # nobody can decide on it before its key is known to be gone for good
        await store.keys.forget(aggregate_id, seen.version + 1)
    due = seen.personal > seen.forgotten
    version = (await say()).after.forgotten if due else seen.forgotten
    deleted = bool(version) and await store.keys.forget(aggregate_id, version)
    await store.snapshots.remove(aggregate_id)  # of an earlier release, it has its state in clear
    return Forgotten(aggregate_id, version, due, deleted, seen.encrypted, seen.clear)


async def _seen(store: CommandStore, aggregate: Aggregate[Any, Any], aggregate_id: str) -> _Seen:
    seen = _Seen()
    async with aclosing(store.walk(aggregate_id)) as lists:
        async for events in lists:
            for event in events:
                seen.enter(event, aggregate.personal, aggregate.forgotten)
    await store.guards.require_whole()  # after the events: it is they that may be missing
    return seen
