"""`GET /events`: the feed of all events, in pages, or as server-sent events that have no end."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.balances.queries import Seconds
from api.http.inputs import FROM_TEXT, Input, invalid, query
from api.http.operations import JSON, Answer, Header, operation
from api.http.problems import Problem
from api.http.streams import EVENTS, stream
from api.security.access import READERS, allowed
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import StreamState
from pipeline.operations.feed.cloud_events import CloudEvent, encoded
from pipeline.operations.feed.position import LONGEST, InvalidPosition, Position
from pipeline.operations.feed.reader import MOST, Feed, FeedPage, Wanted, may_follow
from pipeline.operations.feed.subscriptions import NAME, Subscriptions
from pipeline.support.shared_reading import SharedReading

EVERY: Final = 0.1
"""Seconds between two looks at the end of the log, for all consumers together."""
_OFTEN: Final = 20
"""Streams up to which each looks as often as that."""
_SEARCH: Final = 1.0
"""Seconds that a page looks on for events of its kinds."""
_PIECE: Final = 100
"""Events of a stream that go in one write: a client must read each write within some seconds."""
_AGAIN: Final = 1.0
"""Seconds between two attempts while a server is away."""
_PLACES: Final = 5.0
"""Seconds after which a client learns a position that it has come to without an event."""
_RETRY: Final = b"retry: 1000\n\n"

routes = web.RouteTableDef()

LAST_EVENT_ID: Final = Header(
    "Last-Event-ID",
    "The position of the last event that the client got; it goes before `after`.",
    {"type": "string", "maxLength": LONGEST},
)


def _position(text: object) -> Position | str:
    if text in ("beginning", "recent", "now"):
        return str(text)
    try:
        return Position.parse(text if isinstance(text, str) else "")
    except InvalidPosition as error:
        told = f"{error}, `beginning`, `recent` or `now`"
        raise PydanticCustomError("position", told) from None


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if not all(each.isascii() and each.isidentifier() for each in kinds):
        raise PydanticCustomError("kinds", "Must be kinds of events, with commas between them")
    return kinds


Start = Annotated[
    Any,
    BeforeValidator(_position),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST}),
]
"""A `Position`, or `beginning`, `recent` or `now`."""


class FeedQuery(Input):
    """The parameters of `GET /events`."""

    after: Start | None = None
    """A position: `next`, or that of an event. `beginning`, which is the default, is before all
    events, `recent` before the last thousand of the log, and `now` after those that are there."""
    subscription: Annotated[str, Field(pattern=f"^{NAME}$")] | None = None
    """Go on after the position that is kept under this name, in the place of `after`."""
    kinds: (
        Annotated[
            tuple[str, ...],
            BeforeValidator(_kinds),
            WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        ]
        | None
    ) = None
    """Only events of these kinds."""
    limit: Annotated[int, Field(ge=1, le=MOST), FROM_TEXT] = 100
    """How many a page has at most. A stream has no end."""
    timeout: Seconds = 0.0
    """Seconds to wait for the first event of a page, if there is none."""


class FeedAnswer(TypedDict):
    """Events in order; `next` is the position after them, also if there are none. `has_more`: the
    next page need not be waited for."""

    data: list[CloudEvent]
    has_more: bool
    next: str


class FeedEvent(TypedDict):
    """An event of the stream: `data` is a `CloudEvent` in one line, `id` the position after it. One
    that has only an `id` says how far the stream has come."""

    id: str
    data: str


class Feeds:
    """The feed for all requests, for the service's lifetime."""

    def __init__(self, connections: Connections, application: str) -> None:
        self._connections, self._application = connections, application
        self._log = SharedReading(self._state, EVERY)
        self._streams = 0

    async def start(self, asked: FeedQuery, last: Position | None) -> Position:
        """Where the request wants to begin; problems 404 `subscription-not-found` and 503."""
        if last is not None:
            return last
        if asked.subscription is None:
            return await self.position(asked.after)
        async with self._connections.jetstream() as js:
            found = await Subscriptions(js).get(asked.subscription)
        if found is None:
            raise subscription_not_found(asked.subscription)
        return found.position

    async def position(self, start: Position | str | None) -> Position:
        """That of a `Start`; None is the beginning. Problem 503 `pipeline-unavailable`."""
        if isinstance(start, Position):
            return start
        async with self._connections.jetstream() as js:
            feed = Feed(js, self._connections.store)
            match start:
                case "now":
                    return await feed.end()
                case "recent":
                    return await feed.recent()
            return await feed.beginning()

    async def page(self, after: Position, asked: FeedQuery, schemas: str) -> bytes:
        """The answer. It is empty only if nothing came in time."""
        clock = asyncio.get_running_loop().time
        began, wanted = clock(), _wanted(asked.kinds)
        while True:
            page = await self._read(after, asked.limit, wanted)
            after = page.position
            waited = clock() - began
            if page.items or waited > (_SEARCH if page.more else asked.timeout):
                break
            while not page.more and clock() - began < asked.timeout:
                await asyncio.sleep(EVERY)
                if await self._waits(after):
                    break
        return _encoded(page, [*encoded(page.items, self._application, schemas)])

    async def news(
        self, after: Position, kinds: Sequence[str] | None, schemas: str
    ) -> AsyncGenerator[bytes | None, None]:
        """The stream's text, in pieces; None while there is nothing, or a server is away."""
        self._streams += 1
        try:
            async with aclosing(self._news(after, kinds, schemas)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._streams -= 1

    async def _news(
        self, after: Position, kinds: Sequence[str] | None, schemas: str
    ) -> AsyncGenerator[bytes | None, None]:
        clock = asyncio.get_running_loop().time
        wanted = _wanted(kinds)
        yield _RETRY
        told, told_at = str(after), clock()
        while True:
            try:
                page = await self._read(after, MOST, wanted)
            except (Problem, StoreUnavailable):
                yield None
                await asyncio.sleep(_AGAIN)
                continue
            after = page.position
            for piece in _pieces(page, self._application, schemas):
                yield piece
                told, told_at = str(page.items[-1].position), clock()
            yield None  # whoever left is not read for
            if (here := str(after)) != told and clock() - told_at > _PLACES:
                yield b"id: %b\n\n" % here.encode()
                told, told_at = here, clock()
            while not page.more:
                yield None
                # Any number of streams look as often together as this many.
                await asyncio.sleep(EVERY * max(1.0, self._streams / _OFTEN))
                if await self._waits(after):
                    break

    async def close(self) -> None:
        await self._log.close()

    async def _read(self, after: Position, limit: int, wanted: Wanted | None) -> FeedPage:
        async with self._connections.jetstream() as js:
            return await Feed(js, self._connections.store).page(after, limit, wanted)

    async def _waits(self, after: Position) -> bool:
        """Whether it is worth a read."""
        try:
            state = await self._log.get()
        except Problem:
            return True  # the read tells it, or waits
        return may_follow(after, state)

    async def _state(self) -> StreamState | None:
        async with self._connections.jetstream() as js:
            return await js.state(js.names.log)


FEEDS: Final = web.AppKey("feeds", Feeds)


@routes.get("/events", allow_head=False)
@allowed(*READERS)
@operation(
    Answer({JSON: FeedAnswer, EVENTS: FeedEvent}),
    "subscription-not-found",
    "pipeline-unavailable",
    "store-unavailable",
    "too-many-streams",
    query=FeedQuery,
    headers=(LAST_EVENT_ID,),
)
async def feed(request: web.Request) -> web.StreamResponse:
    """All events, each at least once, in the order of the log.

    With `Accept: text/event-stream` they come as server-sent events, and go on with what comes.
    """
    feeds, asked = request.app[FEEDS], query(request, FeedQuery)
    if asked.after is not None and asked.subscription is not None:
        detail = "Either a position or a subscription"
        raise invalid([{"parameter": "after", "detail": detail}])
    after = await feeds.start(asked, _last_event_id(request))
    schemas = f"{request.scheme}://{request.host}/schemas"
    if EVENTS in request.headers.get("Accept", ""):
        return await stream(request, feeds.news(after, asked.kinds, schemas))
    body = await feeds.page(after, asked, schemas)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    return web.Response(body=body, content_type=JSON, headers=headers)


def subscription_not_found(name: str) -> Problem:
    """A 404."""
    return Problem(404, "subscription-not-found", f"There is no subscription {name}.")


def _last_event_id(request: web.Request) -> Position | None:
    given = request.headers.get(LAST_EVENT_ID.name)
    if not given:
        return None
    try:
        return Position.parse(given)
    except InvalidPosition as error:
        raise invalid([{"parameter": LAST_EVENT_ID.name, "detail": str(error)}]) from None


def _wanted(kinds: Sequence[str] | None) -> Wanted | None:
    if kinds is None:
        return None
    chosen = frozenset(kinds)
    return lambda event: event.get("kind") in chosen


def _encoded(page: FeedPage, events: Sequence[bytes]) -> bytes:
    more = b"true" if page.more else b"false"
    after = str(page.position).encode()
    return b'{"data":[%b],"has_more":%b,"next":"%b"}' % (b",".join(events), more, after)


def _pieces(page: FeedPage, application: str, schemas: str) -> Iterator[bytes]:
    for first in range(0, len(page.items), _PIECE):
        items = page.items[first : first + _PIECE]
        lines = (
            b"id: %b\ndata: %b\n\n" % (str(item.position).encode(), line)
            for item in items
            for line in encoded([item], application, schemas)
        )
        if piece := b"".join(lines):
            yield piece
