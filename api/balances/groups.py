"""`GET /projections/{groups}` and what is below it: documents of several accounts, added up.

Each of the groups that a projection declares has its own routes, made from its name.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final, Literal, NotRequired

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import Field
from typing_extensions import TypedDict

from api.balances import queries
from api.balances.monotonic import version_of
from api.balances.projection_reader import NotSortable
from api.balances.projection_reads import READS, Document, ProjectionPageQuery, no_sort
from api.http.cursors import decode, encode
from api.http.inputs import Input, invalid, query
from api.http.operations import json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import Page, paged
from api.security.access import READERS, allowed
from pipeline.model.events import AGGREGATE_ID
from pipeline.model.groups import Groups
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import grouped
from pipeline.search.group_reader import Group, GroupReader, Seen
from pipeline.support.settings import Settings

_LONGEST: Final = 200
_GROUP: Final = "{group:[^/]+}"
"""In a path: the default would take no braces."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_INTEGERS: Final = range(-(2**63), 2**63)
"""What the encoder takes as a number."""


class ShownGroup(TypedDict):
    """What the documents with one key add up to: how many these `shares` are, and the exact sums of
    their fields, by field. `stale`: not yet with what was asked for."""

    id: str
    shares: int
    sums: dict[str, int]
    stale: NotRequired[Literal[True]]


class GroupPageQuery(Input):
    """The parameters of a page of groups."""

    search: Annotated[str, Field(min_length=1, max_length=_LONGEST)] | None = None
    """Only groups with this id, or with all its words where the id is of a text."""
    prefix: Annotated[str, Field(min_length=1, max_length=_LONGEST)] | None = None
    """Only groups whose ids begin with this."""
    limit: queries.Limit = 20
    """How many a page has at most."""
    starting_after: queries.Cursor | None = None
    """`next` of the page before."""


class GroupQuery(queries.DocumentQuery):
    """The parameters of one group."""

    account: Annotated[str, Field(pattern=f"^{AGGREGATE_ID}$")] | None = None
    """The account that `min_version` is about; its document may be in any group."""


class GroupReads:
    """The readers of all groups, by name, for the service's lifetime."""

    def __init__(self, settings: Settings) -> None:
        self._of = {
            groups.name: GroupReader(settings.elasticsearch, projection, groups)
            for projection, groups in grouped(settings.kept)
        }

    def of(self, groups: Groups) -> GroupReader:
        return self._of[groups.name]

    async def close(self) -> None:
        for each in self._of.values():
            await each.close()


GROUPS: Final = web.AppKey("groups", GroupReads)


def routes_of(kept: Sequence[Projection]) -> Iterator[web.RouteDef]:
    """The routes of all groups of these projections."""
    for projection, groups in grouped(kept):
        name = groups.name
        all_of_them = f"/projections/{name}"
        yield web.get(all_of_them, _named(f"list_{name}", _listing(groups)))
        one = _named(f"get_{name}", _reading(projection, groups))
        yield web.get(f"{all_of_them}/{_GROUP}", one)
        shares = _named(f"list_{name}_shares", _shares(projection, groups))
        yield web.get(f"{all_of_them}/{_GROUP}/shares", shares)


def _named(name: str, handler: Handler) -> Handler:
    """The name is the operation's in the description."""
    handler.__name__ = name
    return handler


def _listing(groups: Groups) -> Handler:
    listing = f"groups {groups.name}"

    @allowed(*READERS)
    @operation(
        json(Page[ShownGroup]),
        "projection-unavailable",
        query=GroupPageQuery,
        about=f"The groups of the projection {groups.name}, in order of their ids.\n\nA group is"
        f" all documents with one `{groups.by}`. A page is as of one moment; what is new shows"
        " within a second.",
    )
    async def page(request: web.Request) -> web.Response:
        asked = query(request, GroupPageQuery)
        after = None
        if asked.starting_after is not None:
            (after,) = decode(asked.starting_after, listing, [str])
        found, more = (
            await request.app[GROUPS]
            .of(groups)
            .page(
                search=asked.search or "",
                prefix=asked.prefix or "",
                after=None if after is None else str(after),
                limit=asked.limit,
            )
        )
        data = [shown(each) for each in found]
        return reply(paged(data, encode(listing, [found[-1].key]) if more else None))

    return page


def _reading(projection: Projection, groups: Groups) -> Handler:
    @allowed(*READERS)
    @operation(
        json(ShownGroup),
        "document-not-found",
        "projection-unavailable",
        query=GroupQuery,
        about=f"A group of the projection {groups.name}.\n\nWith `account` and `min_version` not"
        " before that version of the account is in the sums of its group, or time is out: then it"
        " is `stale`.",
    )
    async def get(request: web.Request) -> web.Response:
        asked, key = query(request, GroupQuery), request.match_info["group"]
        seen = _seen(asked)
        found, fresh = await _found(request, projection, groups, key, seen, asked.timeout)
        if found is None:
            why = f"No document of {projection.name} is in a group {key}. A new one takes a moment."
            raise Problem(404, "document-not-found", why)
        return reply(shown(found) if fresh else {**shown(found), "stale": True})

    return get


def _shares(projection: Projection, groups: Groups) -> Handler:
    @allowed(*READERS)
    @operation(
        json(Page[Document]),
        "projection-unavailable",
        query=ProjectionPageQuery,
        about=f"The documents that add up to a group of the projection {groups.name}.\n\nThey are"
        f" those of the projection {projection.name}, in pages; none if there is no such group.",
    )
    async def page(request: web.Request) -> web.Response:
        asked, read = query(request, ProjectionPageQuery), request.app[READS].named(projection.name)
        shares = partial(
            read.index.page,
            search=asked.search,
            sort=asked.sort,
            limit=asked.limit,
            after=asked.starting_after,
            among=({"term": {groups.by: request.match_info["group"]}},),
        )
        try:
            found, after = await read.shares.get(
                shares, lambda answer: {each["id"]: version_of(each) for each in answer[0]}
            )
        except NotSortable as error:
            raise no_sort(error) from error
        return reply(paged(found, after))

    return page


def shown(group: Group) -> dict[str, Any]:
    """As clients get it. A sum may have any number of digits, as JSON numbers may."""
    sums = {
        name: total if total in _INTEGERS else orjson.Fragment(str(total))
        for name, total in group.sums.items()
    }
    return {"id": group.key, "shares": group.shares, "sums": sums}


def _seen(asked: GroupQuery) -> Seen | None:
    """The event that the read is to include; problem 400 `invalid-input` for half of one."""
    if asked.account is not None and asked.min_version is not None:
        return Seen(asked.account, asked.min_version)
    if asked.account is not None or asked.min_version is not None:
        missing = "account" if asked.account is None else "min_version"
        raise invalid([{"parameter": missing, "detail": "account and min_version go together"}])
    return None


async def _found(
    request: web.Request,
    projection: Projection,
    groups: Groups,
    key: str,
    seen: Seen | None,
    seconds: float,
) -> tuple[Group | None, bool]:
    """The group, None if it has no share, and whether it includes what was to be seen."""
    reader, deadline = request.app[GROUPS].of(groups), time.monotonic() + seconds
    if seen is not None:  # a look-up, before any search; searches see the document later
        waits = request.app[READS].named(projection.name).waits
        with suppress(queries.DocumentNotFound):
            await waits.document(projection.of(*seen), seen.version, seconds)
    found, fresh = await reader.group(key, seen)
    pause = _FIRST_PAUSE
    while not fresh and time.monotonic() + pause < deadline:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        found, fresh = await reader.group(key, seen)
    return found, fresh
