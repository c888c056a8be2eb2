"""The reader's side of a projection: documents by id, and pages of them in order."""

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, TypeVar

from elasticsearch import ApiError, NotFoundError, TransportError

from pipeline.model.projection import Projection
from pipeline.search.client import connect, mget, require_readable, require_sound_alias
from pipeline.search.values import PREFERENCE, ProjectionUnavailable
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief
from pipeline.support.shared_reading import SharedReading

T = TypeVar("T")

TIMEOUT: Final = 10.0


class DocumentReader:
    """Reads a projection by its alias, as people see it.

    Every call raises `ProjectionUnavailable` when it gets no answer. `answered`: when a call got
    one last, on the event loop's clock.
    """

    def __init__(self, at: ServerAccess | str, projection: Projection) -> None:
        self._client, self._alias = connect(at, TIMEOUT, repeat=True), projection.alias
        self.answered = -math.inf
        self._plain = projection.plain
        self._has_plain = SharedReading(self._look_for_plain)
        self._had_plain: bool | None = None

    async def get(self, document_id: str) -> dict[str, Any] | None:
        """The document of that id, as last written, or None."""
        try:
            answer = await self._client.get(
                index=self._alias, id=document_id, preference=PREFERENCE
            )
        except NotFoundError as error:
            if isinstance(error.body, dict) and error.body.get("found") is False:
                self._note_answer()
                return None
            raise ProjectionUnavailable(brief(error)) from error
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        self._note_answer()
        return self._shown(answer["_source"])

    async def many(self, document_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that exist, by id, as last written."""
        found = await self._answered(mget(self._client, self._alias, list(document_ids)))
        return {item["_id"]: self._shown(item["_source"]) for item in found if item.get("found")}

    async def search(
        self,
        filters: Sequence[Mapping[str, Any]],
        *,
        sort: Sequence[Mapping[str, Any]],
        after: Sequence[Any] | None,
        limit: int,
    ) -> tuple[list[dict[str, Any]], list[Any] | None]:
        """Up to `limit` documents that pass all filters, and the sort values of the last one if
        there are more: `after` of the next page.

        Documents that were written a moment ago show within a second.
        """
        hits = await self._hits(
            query={"bool": {"filter": list(filters)}},
            sort=list(sort),
            search_after=None if after is None else list(after),
            size=limit + 1,
            filter_path="hits.hits._source,hits.hits.sort",
        )
        last = hits[limit - 1]["sort"] if len(hits) > limit else None
        return [self._shown(hit["_source"]) for hit in hits[:limit]], last

    async def sort_values(
        self, document_id: str, sort: Sequence[Mapping[str, Any]]
    ) -> list[Any] | None:
        """Where searches have the document now, as `after`; None if they don't have it."""
        hits = await self._hits(
            query={"term": {"id": document_id}},
            sort=list(sort),
            size=1,
            filter_path="hits.hits.sort",
        )
        return hits[0]["sort"] if hits else None

    async def ping(self) -> None:
        """Raise unless the projection can be read by id, and its alias has one index, all of it;
        `ProjectionMissing` if there is none yet."""
        await require_sound_alias(self._client, self._alias)
        await require_readable(self._client, self._alias)

    async def has_plain(self, *, now: bool = False) -> bool:
        """Whether the index that readers see has all plain forms of the projection, known for a
        second, or looked up `now`. One that an older release made has none until workers have
        rebuilt it."""
        if not self._plain:
            return False
        return await (self._look_for_plain() if now else self._has_plain.get())

    async def close(self) -> None:
        await self._has_plain.close()
        await self._client.close()

    async def _look_for_plain(self) -> bool:
        wanted = self._plain.values()
        try:
            found = await self._answered(
                self._client.indices.get_field_mapping(index=self._alias, fields=list(wanted))
            )
        except ProjectionUnavailable as error:
            # A server that refuses this may answer the search all the same; one in silence won't.
            if self._had_plain is None or isinstance(error.__cause__, TransportError):
                raise
            return self._had_plain
        mappings = [each["mappings"].keys() for each in found.body.values()]
        self._had_plain = all(set(wanted) <= each for each in mappings)
        return self._had_plain

    def _shown(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document without its plain forms: nobody is shown them."""
        hidden = self._plain.values()
        return {name: value for name, value in document.items() if name not in hidden}

    async def _hits(self, **search: Any) -> list[dict[str, Any]]:
        """What a search finds; no part of it if a shard is away, for that shard's would be missing
        unseen."""
        answer = await self._answered(
            self._client.search(
                index=self._alias,
                preference=PREFERENCE,
                allow_partial_search_results=False,
                track_total_hits=False,
                **search,
            )
        )
        hits: list[dict[str, Any]] = answer.body.get("hits", {}).get("hits", [])
        return hits

    async def _answered(self, call: Awaitable[T]) -> T:
        try:
            found = await call
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        self._note_answer()
        return found

    def _note_answer(self) -> None:
        self.answered = asyncio.get_running_loop().time()
