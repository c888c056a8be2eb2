"""Reads for the balance service: documents by id, and pages of them."""

import re
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Final, TypeVar

from elasticsearch import ApiError, NotFoundError, TransportError

from pipeline.model.events import ACCOUNT_ID
from pipeline.model.projection import FIRST
from pipeline.search.client import connect
from pipeline.search.values import ProjectionUnavailable
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief

T = TypeVar("T")

TIMEOUT: Final = 10.0
NOBODY: Final = "-"
"""An id that no document has."""
SORTS: Final = {
    "id": "id",
    "owner": "owner.keyword",
    "balance": "balance",
    "status": "status",
    "version": "version",
    "updated_at": "updated_at",
}
"""What pages can be sorted by, and the field that does it."""


class UnknownCursor(Exception):
    """No document has the id that a page should start after."""


class Index:
    """The live generation. Every call raises `ProjectionUnavailable` if it gets no answer."""

    def __init__(self, at: ServerAccess | str) -> None:
        self._client = connect(at, TIMEOUT)

    async def get(self, account_id: str) -> dict[str, Any] | None:
        """The document of an account, as last written, or None."""
        try:
            answer = await self._client.get(index=FIRST, id=account_id)
        except NotFoundError as error:
            if isinstance(error.body, dict) and error.body.get("found") is False:
                return None
            raise ProjectionUnavailable(brief(error)) from error
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        return dict(answer["_source"])

    async def many(self, account_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that exist, by id, as last written."""
        try:
            answer = await self._client.mget(index=FIRST, ids=list(account_ids))
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        return {item["_id"]: item["_source"] for item in answer["docs"] if item.get("found")}

    async def page(
        self,
        *,
        owner: str | None = None,
        search: str | None = None,
        sort: str = "owner",
        descending: bool = False,
        limit: int = 10,
        after: str | None = None,
    ) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` documents, and whether there are more; equal ones come in order of id.

        `owner` is exact; `search` is an id, or words of the owner's name in any order, the last of
        which may be a prefix. `sort` is one of `SORTS`, `after` the id of the last page's last
        document (`UnknownCursor`). New documents show within a second.
        """
        if sort not in SORTS:
            raise ValueError(f"can't sort by {sort!r}: {', '.join(SORTS)}")
        direction = "desc" if descending else "asc"
        order: list[dict[str, Any]] = [{SORTS[sort]: {"order": direction}}]
        if sort != "id":
            order.append({"id": {"order": "asc"}})
        cursor = await self._cursor(after, sort) if after is not None else None
        answer = await _answered(
            self._client.search(
                index=FIRST,
                query={"bool": {"filter": list(_wanted(owner, search))}},
                sort=order,
                search_after=cursor,
                size=limit + 1,
                track_total_hits=False,
                filter_path="hits.hits._source",
            )
        )
        hits = answer.body.get("hits", {}).get("hits", [])
        return [hit["_source"] for hit in hits[:limit]], len(hits) > limit

    async def ping(self) -> None:
        """Raise unless the projection exists.

        It asks for one document: a count is a scan for some servers, and readiness asks often.
        """
        await self.get(NOBODY)

    async def close(self) -> None:
        await self._client.close()

    async def _cursor(self, account_id: str, sort: str) -> list[Any]:
        document = await self.get(account_id)
        if document is None or not isinstance(document.get(sort), str | int):
            raise UnknownCursor(account_id)  # also if it was damaged by hand
        return [document[sort]] if sort == "id" else [document[sort], account_id]


def _wanted(owner: str | None, search: str | None) -> Iterator[dict[str, Any]]:
    """Filters, so that no document is scored."""
    if owner is not None:
        yield {"term": {"owner.keyword": owner}}
    if search is not None and re.fullmatch(ACCOUNT_ID, search):
        yield {"term": {"id": search}}
    elif search is not None:
        yield {"match_bool_prefix": {"owner": {"query": search, "operator": "and"}}}


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except (ApiError, TransportError) as error:
        raise ProjectionUnavailable(brief(error)) from error
