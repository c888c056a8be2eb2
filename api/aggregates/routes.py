"""The routes of an aggregate: commands to it, and how it is now; and those of joint commands."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from typing_extensions import TypedDict

from api.aggregates.bodies import CommandBodies
from api.commands.errors import COMMAND_PROBLEMS
from api.commands.outcomes import REPLAY, REPLAYED_HEADER, command, note_kind
from api.http import correlation
from api.http.headers import (
    ETAG,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    LOCATION,
    idempotency_key,
    if_match,
)
from api.http.inputs import fingerprint, invalid, parsed
from api.http.operations import json, operation
from api.http.replies import as_json, reply
from api.security.access import READERS, TELLER, allowed
from api.security.guard import actor
from pipeline.commands import CommandContext, CommandService, Done, Versioned
from pipeline.model.aggregate import Aggregate, Joint
from pipeline.model.claims import is_reserved
from pipeline.model.events import AGGREGATE_ID, is_id
from pipeline.support import tracing
from pipeline.support.first_warnings import FirstWarnings

_unshown: Final = FirstWarnings(logging.getLogger(__name__))

COMMANDS: Final = web.AppKey("commands", CommandService)

_ETAG: Final = ETAG._replace(meaning='The version of the aggregate: `"3"`.')
_UNREADABLE: Final = ("aggregate-unreadable", "store-unavailable")
_TO_ONE: Final = (*COMMAND_PROBLEMS, *_UNREADABLE, "of-another-aggregate")


class ShownAggregate(TypedDict):
    """An aggregate: `version` counts its events, and `state` is what they made of it; null if the
    aggregate fails to tell it."""

    id: str
    version: int
    state: dict[str, Any] | None


def routes_of(aggregate: Aggregate[Any, Any], refusals: Sequence[str]) -> Iterator[web.RouteDef]:
    """`refusals`: the names of the problems that a command may be refused with.

    Raises `TypeError` for a command with a field that HTTP can't take.
    """
    name = aggregate.name
    all_of_it = f"/aggregates/{name}"
    one = f"{all_of_it}/{{id:{AGGREGATE_ID}}}"
    yield web.get(one, _named(f"get_{name}", _reading(aggregate)))
    if aggregate.commands:
        bodies = CommandBodies(name, aggregate.commands)
        creating = _creating(aggregate, bodies, refusals)
        executing = _executing(aggregate, bodies, refusals)
        yield web.post(all_of_it, _named(f"create_{name}", creating))
        yield web.post(one, _named(f"command_{name}", executing))


def joint_route(joint: Joint[Any], refusals: Sequence[str]) -> web.RouteDef:
    """As `routes_of`; of a joint command that clients may send."""
    bodies = CommandBodies(f"joint_{joint.name}", joint.commands)
    handler = _executing_together(joint, bodies, refusals)
    return web.post(f"/joints/{joint.name}", _named(f"joint_{joint.name}", handler))


def _named(name: str, handler: Handler) -> Handler:
    """The name is the operation's in the description."""
    handler.__name__ = name
    return handler


def _reading(aggregate: Aggregate[Any, Any]) -> Handler:
    @allowed(*READERS)
    @operation(
        json(ShownAggregate, _ETAG),
        "aggregate-not-found",
        *_UNREADABLE,
        about=f"A {aggregate.name} as it is.\n\nIt is folded from the event store: who was answered"
        " by a command finds it here.",
    )
    async def get(request: web.Request) -> web.Response:
        found = await request.app[COMMANDS].get(aggregate, request.match_info["id"])
        return _shown(aggregate, found)

    return get


def _creating(
    aggregate: Aggregate[Any, Any], bodies: CommandBodies, refusals: Sequence[str]
) -> Handler:
    @allowed(TELLER)
    @command
    @operation(
        json(ShownAggregate, _ETAG, REPLAYED_HEADER, LOCATION, status=201),
        *refusals,
        *COMMAND_PROBLEMS,
        *_UNREADABLE,
        also=(json(ShownAggregate, _ETAG),),
        body=bodies.described,
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        about=f"The first command to a {aggregate.name}, which gets a new id.\n\n200 if it has"
        " nothing to do: then there is none.",
    )
    async def create(request: web.Request) -> web.Response:
        wanted, context = await _parsed(request, bodies)
        done = await request.app[COMMANDS].create(aggregate, wanted, context)
        if not done.after.version:
            return _done(aggregate, done)
        place = {"Location": f"/aggregates/{aggregate.name}/{done.after.id}"}
        return _done(aggregate, done, status=201, headers=place)

    return create


def _executing(
    aggregate: Aggregate[Any, Any], bodies: CommandBodies, refusals: Sequence[str]
) -> Handler:
    @allowed(TELLER)
    @command
    @operation(
        json(ShownAggregate, _ETAG, REPLAYED_HEADER),
        *refusals,
        *_TO_ONE,
        body=bodies.described,
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        about=f"A command to a {aggregate.name}.",
    )
    async def execute(request: web.Request) -> web.Response:
        wanted, context = await _parsed(request, bodies)
        aggregate_id = request.match_info["id"]
        if is_reserved(aggregate_id, aggregate):
            raise invalid([{"parameter": "id", "detail": "Only claims have such an id"}])
        done = await request.app[COMMANDS].execute(aggregate, aggregate_id, wanted, context)
        return _done(aggregate, done)

    return execute


def _executing_together(
    joint: Joint[Any], bodies: CommandBodies, refusals: Sequence[str]
) -> Handler:
    first, *others = (each.name for each in joint.aggregates)

    @allowed(TELLER)
    @command
    @operation(
        json(ShownAggregate, _ETAG, REPLAYED_HEADER),
        *refusals,
        *_TO_ONE,
        "same-aggregate",
        body=bodies.described,
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        about=f"A command over a {' and a '.join([first, *others])}.\n\nIt is executed whole or not"
        f" at all. The answer, `If-Match` and `ETag` are about the {first}.",
    )
    async def execute(request: web.Request) -> web.Response:
        wanted, context = await _parsed(request, bodies)
        ids = _ids_of(joint, wanted)
        done = await request.app[COMMANDS].execute_together(joint, ids, wanted, context)
        return _done(joint.aggregates[0], done)

    return execute


def _ids_of(joint: Joint[Any], wanted: Any) -> Sequence[str]:
    """The ids of the aggregates that a command names; problem 400 for what can't be one."""
    assert joint.ids is not None
    ids = joint.ids(wanted)
    for aggregate, each in zip(joint.aggregates, ids, strict=True):
        if not is_id(each) or is_reserved(each, aggregate):
            detail = f"{each} can't be the id of a {aggregate.name}"
            raise invalid([{"pointer": "#", "detail": detail}])
    return ids


async def _parsed(request: web.Request, bodies: CommandBodies) -> tuple[Any, CommandContext]:
    """The command of a request, and its context."""
    key, condition = idempotency_key(request), if_match(request)
    given = bodies.validated(await parsed(request))
    wanted = bodies.command(given)
    note_kind(type(wanted).__name__)
    request_id = fingerprint(request, given) if key is not None else ""
    return wanted, CommandContext(
        correlation.current(), key, request_id, condition, tracing.traceparent(), actor()
    )


def _done(
    aggregate: Aggregate[Any, Any],
    done: Done[Any],
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """The response to a command, the same at each repetition."""
    replayed = {REPLAY: "true"} if done.replayed else {}
    return _shown(aggregate, done.after, status=status, headers=replayed | (headers or {}))


def _shown(
    aggregate: Aggregate[Any, Any],
    found: Versioned[Any],
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """The aggregate; its version is the entity tag."""
    document = {"id": found.id, "version": found.version, "state": _state(aggregate, found)}
    return reply(document, status=status, headers={"ETag": f'"{found.version}"'} | (headers or {}))


def _state(aggregate: Aggregate[Any, Any], found: Versioned[Any]) -> orjson.Fragment | None:
    """The state as JSON, None if that fails: what was stored is no error, and must not be told as
    one."""
    try:
        return orjson.Fragment(as_json(aggregate.to_json(found.state)))
    except Exception:  # whatever `to_json` raises
        _unshown.warn(aggregate, "The state of %s %s can't be shown", aggregate.name, found.id)
        return None
