"""The reader's side of a projection: documents by id, and pages of them in order."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, TypeVar

from elasticsearch import ApiError, NotFoundError, TransportError

from pipeline.model.projection import Projection
from pipeline.search.client import connect
from pipeline.search.values import ProjectionUnavailable
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief

T = TypeVar("T")

TIMEOUT: Final = 10.0
NOBODY: Final = "-"
"""An id that no document has."""


class UnknownCursor(Exception):
    """No document has the id that a page should start after."""


class DocumentReader:
    """Reads a projection by its alias, as people see it.

    Every call raises `ProjectionUnavailable` when it gets no answer.
    """

    def __init__(self, at: ServerAccess | str, projection: Projection) -> None:
        self._client, self._alias = connect(at, TIMEOUT), projection.name

    async def get(self, document_id: str) -> dict[str, Any] | None:
        """The document of that id, as last written, or None."""
        try:
            answer = await self._client.get(index=self._alias, id=document_id)
        except NotFoundError as error:
            if isinstance(error.body, dict) and error.body.get("found") is False:
                return None
            raise ProjectionUnavailable(brief(error)) from error
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        return dict(answer["_source"])

    async def many(self, document_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that exist, by id, as last written."""
        answer = await _answered(self._client.mget(index=self._alias, ids=list(document_ids)))
        return {item["_id"]: item["_source"] for item in answer["docs"] if item.get("found")}

    async def search(
        self,
        filters: Sequence[Mapping[str, Any]],
        *,
        sort: Sequence[Mapping[str, Any]],
        after: Sequence[Any] | None,
        limit: int,
    ) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` documents that pass all filters, and whether there are more.

        `after` has the sort values of the last document of the page before. Documents that were
        written a moment ago show within a second.
        """
        answer = await _answered(
            self._client.search(
                index=self._alias,
                query={"bool": {"filter": list(filters)}},
                sort=list(sort),
                search_after=None if after is None else list(after),
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


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except (ApiError, TransportError) as error:
        raise ProjectionUnavailable(brief(error)) from error
