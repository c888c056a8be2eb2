"""`/subscriptions`: positions in the feed that consumers keep here by name."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from aiohttp import web
from typing_extensions import TypedDict

from api.balances.connections import CONNECTIONS
from api.balances.feed import FEEDS, Start, subscription_not_found
from api.http.headers import IF_MATCH, if_match
from api.http.inputs import Input, body
from api.http.operations import Answer, Header, json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import All
from api.security.access import READERS, allowed
from pipeline.messaging.kv import Overtaken
from pipeline.operations.feed.subscriptions import (
    MOST,
    NAME,
    Subscription,
    Subscriptions,
    TooManySubscriptions,
)

T = TypeVar("T")

_ETAG: Final = Header("ETag", 'Which write of the subscription it is: `"3"`.', {"type": "string"})
_CONDITION: Final = Header(
    IF_MATCH.name,
    "Change the subscription only as it was read, by its `ETag`; `*` is however it is.",
    IF_MATCH.schema,
)

routes = web.RouteTableDef()


class PositionInput(Input):
    """What is kept under the name."""

    position: Start
    """A position: `next` of a page, or that of an event; or `beginning`, `recent` or `now`."""


class SubscriptionAnswer(TypedDict):
    """A subscription: `GET /events?subscription={name}` goes on after its position."""

    name: str
    position: str


@routes.get("/subscriptions")
@allowed(*READERS)
@operation(json(All[SubscriptionAnswer]), "pipeline-unavailable")
async def subscriptions(request: web.Request) -> web.Response:
    """All subscriptions, in order of their names."""
    async with request.app[CONNECTIONS].jetstream() as js:
        return reply({"data": [_shown(each) async for each in Subscriptions(js).all()]})


@routes.get(f"/subscriptions/{{name:{NAME}}}")
@allowed(*READERS)
@operation(json(SubscriptionAnswer, _ETAG), "subscription-not-found", "pipeline-unavailable")
async def subscription(request: web.Request) -> web.Response:
    """A subscription."""
    async with request.app[CONNECTIONS].jetstream() as js:
        found = await Subscriptions(js).get(request.match_info["name"])
    if found is None:
        raise subscription_not_found(request.match_info["name"])
    return _answer(found)


@routes.put(f"/subscriptions/{{name:{NAME}}}")
@allowed(*READERS)
@operation(
    json(SubscriptionAnswer, _ETAG),
    "subscription-not-found",
    "subscription-changed",
    "too-many-subscriptions",
    "invalid-if-match",
    "pipeline-unavailable",
    also=(json(SubscriptionAnswer, _ETAG, status=201),),
    body=PositionInput,
    headers=(_CONDITION,),
)
async def keep_position(request: web.Request) -> web.Response:
    """Keep a position: without `If-Match` under a new name, with it under one that is there."""
    name, wanted = request.match_info["name"], await body(request, PositionInput)
    async with request.app[CONNECTIONS].jetstream() as js:
        kept = Subscriptions(js)
        position = await request.app[FEEDS].position(wanted.position)
        put = partial(kept.put, name, position)
        if if_match(request) is not None:
            return _answer(await _as_it_is(request, kept, put))
        try:
            return _answer(await put(revision=0), status=201)
        except TooManySubscriptions:
            detail = f"There are {MOST} subscriptions."
            raise Problem(409, "too-many-subscriptions", detail) from None
        except Overtaken:
            raise await _changed(kept, name) from None


@routes.delete(f"/subscriptions/{{name:{NAME}}}")
@allowed(*READERS)
@operation(
    Answer({}, status=204),
    "subscription-not-found",
    "subscription-changed",
    "invalid-if-match",
    "pipeline-unavailable",
    headers=(_CONDITION,),
)
async def forget_position(request: web.Request) -> web.Response:
    """Delete a subscription; the events stay."""
    async with request.app[CONNECTIONS].jetstream() as js:
        kept = Subscriptions(js)
        await _as_it_is(request, kept, partial(kept.delete, request.match_info["name"]))
    return web.Response(status=204)


async def _as_it_is(
    request: web.Request, kept: Subscriptions, write: Callable[..., Awaitable[T]]
) -> T:
    """What `write` returns at the `revision` that the subscription has; problems 404 and 412."""
    condition = if_match(request)
    while True:
        revision = await _revision(request, kept)
        try:
            return await write(revision=revision)
        except Overtaken:  # who names no version wants it however it is by now
            if condition is not None and condition.tags is not None:
                raise await _changed(kept, request.match_info["name"]) from None


async def _revision(request: web.Request, kept: Subscriptions) -> int:
    """That of the subscription, which meets the request's condition; problems 404 and 412."""
    name, condition = request.match_info["name"], if_match(request)
    found = await kept.get(name)
    if found is None:
        raise subscription_not_found(name)
    if condition is not None and not condition.admits(found.revision):
        raise await _changed(kept, name)
    return found.revision


async def _changed(kept: Subscriptions, name: str) -> Problem:
    found = await kept.get(name)
    headers = {"ETag": f'"{found.revision}"'} if found else {}
    detail = f"The subscription {name} is there, and not as you read it."
    return Problem(412, "subscription-changed", detail, headers=headers)


def _shown(found: Subscription) -> SubscriptionAnswer:
    return {"name": found.name, "position": str(found.position)}


def _answer(found: Subscription, status: int = 200) -> web.Response:
    return reply(_shown(found), status=status, headers={"ETag": f'"{found.revision}"'})
