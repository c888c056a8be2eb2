"""The routes of an aggregate: commands to it, and how it is now."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

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
from api.http.replies import reply
from api.security.access import READERS, TELLER, allowed
from api.security.guard import actor
from pipeline.commands import CommandContext, CommandService, Done, Versioned
from pipeline.model.aggregate import Aggregate
from pipeline.model.claims import is_reserved
from pipeline.model.events import AGGREGATE_ID
from pipeline.support import tracing

COMMANDS: Final = web.AppKey("commands", CommandService)

_ETAG: Final = ETAG._replace(meaning='The version of the aggregate: `"3"`.')
_UNREADABLE: Final = ("aggregate-unreadable", "store-unavailable")


class ShownAggregate(TypedDict):
    """An aggregate: `version` counts its events, and `state` is what they made of it."""

    id: str
    version: int
    state: dict[str, Any]


def routes_of(aggregate: Aggregate[Any, Any], refusals: Sequence[str]) -> Iterator[web.RouteDef]:
    """`refusals`: the names of the problems that a command may be refused with.

    Raises `TypeError` for a command with a field that HTTP can't take.
    """
    name = aggregate.name
    all_of_it = f"/aggregates/{name}"
    one = f"{all_of_it}/{{id:{AGGREGATE_ID}}}"
    yield web.get(one, _named(f"get_{name}", _reading(aggregate)))
    if aggregate.commands:
        bodies = CommandBodies(aggregate)
        creating = _creating(aggregate, bodies, refusals)
        executing = _executing(aggregate, bodies, refusals)
        yield web.post(all_of_it, _named(f"create_{name}", creating))
        yield web.post(one, _named(f"command_{name}", executing))


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
        *COMMAND_PROBLEMS,
        *_UNREADABLE,
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
    document = {
        "id": found.id,
        "version": found.version,
        "state": aggregate.to_json(found.state),
    }
    return reply(document, status=status, headers={"ETag": f'"{found.version}"'} | (headers or {}))
