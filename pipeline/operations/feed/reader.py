"""Reads the feed: the log in its order, and first the store where the log does not have it all.

A consumer that begins, or whose place the log has lost, gets the whole store, account by account,
and then the log from where it ended before the first event was read from the store. What was stored
later is forwarded later, so no event is left out; some come twice. The same at a resync marker,
which says that the log has no part of what was stored before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any, Final, NamedTuple

import orjson
from nats.errors import NoRespondersError

from pipeline.eventstore import FIRST, EventStore, place_of
from pipeline.messaging import MARKER, JetStream, StoredMessage, StreamState
from pipeline.messaging.stream_reader import BATCH, read
from pipeline.model.derived import before_upcast
from pipeline.model.events import Event, misplaced
from pipeline.operations.feed.position import UNKNOWN, Position, mark

MOST: Final = BATCH
"""Events of a page at most."""

Wanted = Callable[[Event], bool]


class Item(NamedTuple):
    """An event in the schema in which it is stored, with personal fields as readers have them, and
    the position after it."""

    event: Event
    position: Position


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Some events in order, the position after all that was read, and whether there is more."""

    items: Sequence[Item]
    position: Position
    more: bool


class Feed:
    """Keeps nothing: any number of consumers may have one, or share it.

    Every method may raise `StoreUnavailable`, and what JetStream raises.
    """

    def __init__(self, js: JetStream, store: EventStore) -> None:
        self._js, self._store, self._log = js, store, js.names.log

    async def beginning(self) -> Position:
        """Before all events."""
        return replace(await self.end(), place=FIRST)

    async def end(self) -> Position:
        """After what is in the log now."""
        state = await self._js.state(self._log)
        if state is None:
            return Position(UNKNOWN, 0)
        stamp = UNKNOWN
        for message in await self._messages(state.last, 1) if state.last else ():
            if message.sequence == state.last:
                stamp = _stamp(message)
        return Position(mark(state.created), state.last, stamp)

    async def recent(self) -> Position:
        """Before the last messages of the log, `MOST` at most, and after its last marker: from
        there on nothing comes from the store."""
        state = await self._js.state(self._log)
        if state is None:
            return Position(UNKNOWN, 0)
        here = Position(mark(state.created), max(state.first - 1, state.last - MOST, 0))
        for message in await self._messages(here.sequence + 1, MOST):
            if message.data == MARKER:
                here = replace(here, sequence=message.sequence, stamp=_stamp(message))
        return here

    async def page(self, after: Position, limit: int, wanted: Wanted | None = None) -> FeedPage:
        """What follows the position: up to `limit` events that are `wanted`, of those that one
        request finds. None may be among them although there is more."""
        found = await self._found(after, limit, wanted)
        events = await self._store.readable([item.event for item in found.items])
        items = [
            item._replace(event=before_upcast(event))
            for item, event in zip(found.items, events, strict=True)
        ]
        return replace(found, items=items)

    async def _found(self, after: Position, limit: int, wanted: Wanted | None) -> FeedPage:
        """The page with its events as they are stored."""
        if after.place is None:
            if (found := await self._of_log(after, limit, wanted)) is not None:
                return found
            after = await self.beginning()
        return await self._of_store(after, limit, wanted)

    async def _of_store(self, after: Position, limit: int, wanted: Wanted | None) -> FeedPage:
        assert after.place is not None
        events, place = await self._store.after(after.place, MOST if wanted else limit)
        items = (
            Item(event, replace(after, place=place_of(event)))
            for event in events
            if wanted is None or wanted(event)
        )
        found = [*islice(items, limit)]
        if wanted and len(found) == limit:  # there may be more of them among those that were read
            return FeedPage(found, found[-1].position, more=True)
        return FeedPage(found, replace(after, place=place), more=True)

    async def _of_log(self, after: Position, limit: int, wanted: Wanted | None) -> FeedPage | None:
        """None if the log has not all that follows the position."""
        count = MOST if wanted else min(limit, MOST)
        try:  # with the message at the position
            found = await self._messages(max(after.sequence, 1), count + 1)
        except NoRespondersError:  # there is no such stream, or nobody answers for it
            found = []
        # Read after the messages: if it is still the stream of the position, they were of it.
        state = await self._js.state(self._log)
        if state is None or mark(state.created) != after.incarnation:
            missing = state is None and after == Position(UNKNOWN, 0)
            return FeedPage((), after, more=False) if missing else None
        if after.sequence > state.last or not _follows(found, after, state):
            return None
        news = [each for each in found if each.sequence > after.sequence]
        run = [
            message
            for number, message in enumerate(news, after.sequence + 1)
            if message.sequence == number
        ]
        known = [*takewhile(lambda message: message.data != MARKER, run)]
        if news and not known:
            return None
        items: list[Item] = []
        for message in known:
            after = Position(after.incarnation, message.sequence, _stamp(message))
            event = self._event(message)
            if event is not None and (wanted is None or wanted(event)):
                items.append(Item(event, after))
                if len(items) == limit:
                    break
        return FeedPage(items, after, more=bool(known) and after.sequence < state.last)

    def _event(self, message: StoredMessage) -> Event | None:
        """None for what is no event, such as a message that only renews the resume token."""
        if not message.subject.removeprefix(f"{self._log}.").isdecimal():
            return None
        try:
            event: Any = orjson.loads(message.data)
        except ValueError:
            return None
        return event if isinstance(event, dict) and misplaced(event) is None else None  # type: ignore[return-value]

    async def _messages(self, sequence: int, count: int) -> list[StoredMessage]:
        return await read(
            self._js, self._log, {"seq": sequence, "next_by_subj": ">", "batch": count}
        )


def may_follow(after: Position, state: StreamState | None) -> bool:
    """Whether a page after it may have something, by the state of the log: False is certain."""
    if state is None:
        return after != Position(UNKNOWN, 0)
    there = (mark(state.created), state.last)
    return after.place is not None or there != (after.incarnation, after.sequence)


def _stamp(message: StoredMessage) -> str:
    return mark(message.headers.get("Nats-Time-Stamp"))


def _follows(found: Sequence[StoredMessage], after: Position, state: StreamState) -> bool:
    """Whether the messages go on where the position is; `found` may begin with the one at it."""
    if not found:
        # A replica that is behind finds nothing for a while; then it is as if nothing had come.
        return state.first <= after.sequence + 1
    first = found[0]
    if first.sequence == after.sequence:
        return after.stamp in (UNKNOWN, _stamp(first))
    return first.sequence == after.sequence + 1
