"""Positions in the feed that consumers keep on the server, by a name: the KV bucket
`subscriptions`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry
from pipeline.operations.feed.position import InvalidPosition, Position

BUCKET: Final = "subscriptions"
NAME: Final = "[A-Za-z0-9_-]{1,64}"
"""A name, as a pattern."""
MOST: Final = 1000
"""How many an application has; some more where several are made at the same moment."""


class TooManySubscriptions(Exception):
    """There are as many as there may be."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A name and the position kept under it; `revision` rises with each write."""

    name: str
    position: Position
    revision: int


class Subscriptions:
    """Those of an application."""

    def __init__(self, js: JetStream) -> None:
        self._bucket = Bucket(js, BUCKET)

    async def get(self, name: str) -> Subscription | None:
        entry = await self._bucket.get(name)
        return _subscription(entry) if entry else None

    async def all(self) -> AsyncIterator[Subscription]:
        """In order of their names."""
        entries = await self._bucket.entries()
        for name in sorted(entries):
            if (found := _subscription(entries[name])) is not None:
                yield found

    async def put(self, name: str, position: Position, *, revision: int | None) -> Subscription:
        """Keep the position. Raises `Overtaken` unless the name is at that revision: 0 for a new
        one, None for any; and `TooManySubscriptions` for a new one."""
        if revision == 0:
            entry = await self._bucket.get(name)
            if entry is None:
                await self._require_room()
            elif _subscription(entry) is None:
                revision = entry.revision
        value = {"position": str(position)}
        return Subscription(name, position, await self._bucket.put(name, value, expected=revision))

    async def delete(self, name: str, *, revision: int | None) -> None:
        """Raises `Overtaken` unless the name is at that revision; None is any."""
        await self._bucket.delete(name, expected=revision)

    async def _require_room(self) -> None:
        # Deleted ones leave messages, too: only if there are so many are names worth counting.
        state = await self._bucket.js.state(self._bucket.stream)
        if state and state.messages >= MOST and len(await self._bucket.entries()) >= MOST:
            raise TooManySubscriptions


def _subscription(entry: KeyValueEntry) -> Subscription | None:
    """None for what somebody has written by hand."""
    try:
        position = Position.parse(str(entry.value.get("position")))
    except InvalidPosition:
        return None
    return Subscription(entry.key, position, entry.revision)
