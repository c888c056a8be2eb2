"""Reads for the checker and repairs: many documents by id, and the ids of all documents.

Nothing is retried: a checker reports a server that is down.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from elasticsearch import ApiError, TransportError

from pipeline.search.catalog import projection_version
from pipeline.search.client import (
    alias_faults,
    connect,
    mget,
    refresh,
    require_readable,
    require_sound_alias,
)
from pipeline.search.values import PREFERENCE, FoundDocument, ProjectionUnavailable, Stamp
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief

PAGE: Final = 2000
_KEEP_ALIVE: Final = "2m"


class IndexScan:
    """Reads the index behind an alias; a projection's is the one of its live generation.

    Every call raises `ProjectionUnavailable` when it gets no answer or no index is there.
    """

    def __init__(self, at: ServerAccess | str, alias: str) -> None:
        self._client, self._alias = connect(at, repeat=True), alias

    async def close(self) -> None:
        await self._client.close()

    async def ping(self) -> None:
        """Raise unless a document can be read by its id, and the alias has one index, all of it."""
        await require_sound_alias(self._client, self._alias)
        await require_readable(self._client, self._alias)

    async def version(self) -> int:
        """The version of the projection for which the index was made; 0 if it names none."""
        try:
            found = await self._client.indices.get_mapping(index=self._alias)
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        return min(projection_version(each["mappings"]) for each in found.body.values())

    async def alias_faults(self, alias: str) -> list[str]:
        """What is wrong with any alias, whose `*` stands for any number; nothing if it is
        nowhere."""
        try:
            return await alias_faults(self._client, alias)
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error

    async def documents(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that exist, by id, as last written."""
        return {each: found.source for each, found in (await self.found(ids)).items()}

    async def found(self, ids: Sequence[str]) -> dict[str, FoundDocument]:
        """The same, each with its `_version` and its stamp."""
        if not ids:
            return {}
        try:
            items = await mget(self._client, self._alias, ids)
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        for item in items:
            if "error" in item:  # the request itself is a success
                raise ProjectionUnavailable(f"{self._alias}: {item['error'].get('reason')}")
        return {
            item["_id"]: FoundDocument(
                item["_version"], Stamp(item["_seq_no"], item["_primary_term"]), item["_source"]
            )
            for item in items
            if item["found"]
        }

    async def ids(self) -> AsyncIterator[list[str]]:
        """The ids of all documents as of one moment, in lists of up to `PAGE`, in no order."""
        try:
            await refresh(self._client, self._alias)
            opened = await self._client.open_point_in_time(
                index=self._alias, keep_alive=_KEEP_ALIVE, preference=PREFERENCE
            )
            pit = opened["id"]
            try:
                after: list[Any] | None = None
                while hits := await self._page(pit, after):
                    yield [hit["_id"] for hit in hits]
                    after = hits[-1]["sort"]
            finally:
                await self._client.close_point_in_time(id=pit)
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error

    async def _page(self, pit: str, after: list[Any] | None) -> list[dict[str, Any]]:
        answer = await self._client.search(
            pit={"id": pit, "keep_alive": _KEEP_ALIVE},
            allow_partial_search_results=False,
            sort=[{"_shard_doc": "asc"}],
            search_after=after,
            size=PAGE,
            source=False,
            track_total_hits=False,
            filter_path="hits.hits._id,hits.hits.sort",
        )
        hits: list[dict[str, Any]] = answer.body.get("hits", {}).get("hits", [])
        return hits
