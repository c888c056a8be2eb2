"""`GET /projections/{name}` and `/projections/{name}/{id}`: the documents of any projection."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from api.balances import queries
from api.balances.connections import Connections
from api.balances.monotonic import MonotonicReads, version_of
from api.balances.projected import kept
from api.balances.projection_reader import NotSortable, ProjectionReader
from api.balances.waiting import VersionWaits
from api.http.headers import ETAG
from api.http.inputs import Input, query
from api.http.operations import json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import Page, paged
from api.security.access import READERS, allowed
from pipeline.model.projection import Projection
from pipeline.search import ProjectionMissing
from pipeline.support.settings import Settings

routes = web.RouteTableDef()

_LONGEST: Final = 200

Document = dict[str, Any]


class ProjectionPageQuery(Input):
    """The parameters of `GET /projections/{name}`."""

    search: Annotated[str, Field(min_length=1, max_length=_LONGEST)] | None = None
    """Only documents that have this as a whole keyword, or all its words in one text."""
    sort: Annotated[str, Field(pattern="^-?[A-Za-z][A-Za-z0-9_]{0,99}$")] = "id"
    """A field of the projection; a leading `-` means descending. Ties are in order of id."""
    limit: queries.Limit = 20
    """How many a page has at most."""
    starting_after: queries.Cursor | None = None
    """`next` of the page before."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The reader's side of one projection."""

    index: ProjectionReader
    waits: VersionWaits
    documents: MonotonicReads
    pages: MonotonicReads
    shares: MonotonicReads


class ProjectionReads:
    """All projections, for the service's lifetime."""

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self._of: dict[str, _Read] = {}
        for each in settings.kept:
            self._of[each.name] = _read_of(settings, each, connections)

    def of(self, request: web.Request) -> _Read:
        """The one in the path; problem 404 `projection-not-found`."""
        return self._of[kept(request, request.match_info["name"]).name]

    def named(self, name: str) -> _Read:
        """The one of a projection that is kept."""
        return self._of[name]

    @property
    def answered(self) -> float:
        """When Elasticsearch answered a read last, on the event loop's clock."""
        return max(each.index.answered for each in self._of.values())

    async def ping(self) -> None:
        """Raise unless all can be read that are there; the first one must be."""
        first, *others = self._of.values()
        await first.index.ping()
        for each in others:
            with suppress(ProjectionMissing):  # its first worker may not have come yet
                await each.index.ping()

    async def close(self) -> None:
        for each in self._of.values():
            await each.waits.close()
            await each.index.close()


def _read_of(settings: Settings, projection: Projection, connections: Connections) -> _Read:
    async def head(document_id: str) -> int:
        return await connections.store.head(projection.account_id(document_id))

    index = ProjectionReader(settings.elasticsearch, projection)
    waits = VersionWaits(index, projection, connections)
    return _Read(index, waits, *(MonotonicReads(head) for _ in range(3)))


READS: Final = web.AppKey("projections read", ProjectionReads)

_MAY_END: Final = ("projection-not-found", "projection-unavailable")


@routes.get("/projections/{name}")
@allowed(*READERS)
@operation(json(Page[Document]), *_MAY_END, query=ProjectionPageQuery)
async def projection_page(request: web.Request) -> web.Response:
    """Documents of a projection in pages. What is new shows within a second."""
    read, asked = request.app[READS].of(request), query(request, ProjectionPageQuery)
    page = partial(
        read.index.page,
        search=asked.search,
        sort=asked.sort,
        limit=asked.limit,
        after=asked.starting_after,
    )
    try:
        found, after = await read.pages.get(
            page, lambda answer: {each["id"]: version_of(each) for each in answer[0]}
        )
    except NotSortable as error:
        raise no_sort(error) from error
    return reply(paged(found, after))


def no_sort(error: NotSortable) -> Problem:
    fault = {"parameter": "sort", "detail": str(error)}
    return Problem(400, "invalid-input", f"sort: {error}.", errors=[fault])


@routes.get("/projections/{name}/{id:[A-Za-z0-9_-]+}")
@allowed(*READERS)
@operation(json(Document, ETAG), "document-not-found", *_MAY_END, query=queries.DocumentQuery)
async def projection_document(request: web.Request) -> web.Response:
    """A document of a projection.

    With `min_version` not before it has that version, or time is out: then it is `stale`.
    """
    read, asked = request.app[READS].of(request), query(request, queries.DocumentQuery)
    document_id = request.match_info["id"]
    found, fresh = await read.documents.get(
        partial(_found, read, document_id, asked),
        lambda answer: {document_id: version_of(answer[0])},
    )
    if found is None:
        raise Problem(
            404,
            "document-not-found",
            f"The projection has no document {document_id}. A new one takes a moment to appear.",
        )
    headers = {"ETag": f'"{found["version"]}"'} if "version" in found else None
    return reply(found if fresh else {**found, "stale": True}, headers=headers)


async def _found(
    read: _Read, document_id: str, asked: queries.DocumentQuery
) -> tuple[Document | None, bool]:
    """The document, None if there is none, and whether it is as new as was asked for."""
    if len(document_id) > _LONGEST:
        return None, False
    with suppress(queries.DocumentNotFound):
        if asked.min_version is None:
            return await queries.document(read.index, document_id), True
        return await read.waits.document(document_id, asked.min_version, asked.timeout)
    return None, False
