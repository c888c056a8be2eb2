"""Reads the groups of a projection's documents: how many shares each has, and their exact sums.

Elasticsearch adds up in floating point, which is exact while every sum on the way stays below 2^53.
Where it may not be, the shares themselves are read and added up here.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from copy import copy
from typing import Any, Final, NamedTuple

from elasticsearch import ApiError, TransportError

from pipeline.model.groups import Groups
from pipeline.model.projection import Projection
from pipeline.search.client import connect
from pipeline.search.reader import TIMEOUT
from pipeline.search.values import PREFERENCE, ProjectionMissing, ProjectionUnavailable
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief

EXACT: Final = 2**53
PAGE: Final = 10_000
"""Documents in one answer: the most that Elasticsearch gives by default."""
_KEEP_ALIVE: Final = "2m"


class Group(NamedTuple):
    """What the shares with one key add up to; it has one share at least."""

    key: str
    shares: int
    sums: Mapping[str, int]


class Seen(NamedTuple):
    """An event of an account: a read is to include it, or what came after it."""

    account_id: str
    version: int


class GroupReader:
    """Reads groups by the projection's alias, each answer as of one moment.

    Every call raises `ProjectionUnavailable` when it gets no answer.
    """

    def __init__(
        self,
        at: ServerAccess | str,
        projection: Projection,
        groups: Groups,
        timeout: float = TIMEOUT,
    ) -> None:
        self._client = connect(at, timeout, repeat=True)
        self._projection, self._groups = projection, groups
        self._place: Mapping[str, Any] = {"index": projection.alias, "preference": PREFERENCE}
        self._adding = {each: {"stats": {"field": each}} for each in groups.sums}

    async def close(self) -> None:
        await self._client.close()

    async def page(
        self, *, search: str = "", prefix: str = "", after: str | None = None, limit: int
    ) -> tuple[list[Group], bool]:
        """Up to `limit` groups in order of their keys, and whether there are more.

        `search`: those with this key, or with all its words in the text that the key is of.
        `prefix`: those whose keys begin with it. `after`: the key before the page.
        """
        filters: list[Mapping[str, Any]] = []
        if search:
            filters.append(self._search_filter(search))
        if prefix:
            filters.append({"prefix": {self._groups.by: prefix}})
        if after is not None:
            filters.append({"range": {self._groups.by: {"gt": after}}})
        # In order of their keys these are exact on any number of shards; by count they are not.
        groups = {"field": self._groups.by, "size": limit + 1, "order": {"_key": "asc"}}
        found = await self._aggregated(
            {"bool": {"filter": filters}},
            {"groups": {"terms": groups, "aggs": self._adding}},
        )
        buckets = found["groups"]["buckets"]
        page = [await self._exact(each["key"], each) for each in buckets[:limit]]
        return page, len(buckets) > limit

    async def group(self, key: str, seen: Seen | None = None) -> tuple[Group | None, bool]:
        """The group of that key, None if it has no share, and whether the read includes the event
        `seen`, whose account may be in any group."""
        ours: dict[str, Any] = {"term": {self._groups.by: key}}
        theirs = self._has(seen) if seen else ours
        # One search for both, or another copy of the shard might answer the second one.
        found = await self._aggregated(
            {"bool": {"should": [ours, theirs]}},
            {"group": {"filter": ours, "aggs": self._adding}, "seen": {"filter": theirs}},
        )
        group = await self._exact(key, found["group"]) if found["group"]["doc_count"] else None
        if group is not None and not group.shares:
            group = None  # all left before they were added up
        return group, seen is None or found["seen"]["doc_count"] > 0

    async def shares(self, key: str | None = None) -> AsyncIterator[list[dict[str, Any]]]:
        """The fields that make the group, of all documents with that key, or of all that are there,
        page by page, as of one moment."""
        async with self.at_one_moment() as still:
            query = {"match_all": {}} if key is None else {"term": {self._groups.by: key}}
            after: list[Any] | None = None
            while hits := await still._page(query, after):
                yield [hit.get("_source", {}) for hit in hits]
                after = hits[-1]["sort"]

    @asynccontextmanager
    async def at_one_moment(self) -> AsyncIterator["GroupReader"]:
        """The same reader, of which all reads are as of now; it needs no closing."""
        if "pit" in self._place:
            yield self
            return
        alias = self._projection.alias
        try:
            opened = await self._client.open_point_in_time(
                index=alias, keep_alive=_KEEP_ALIVE, preference=PREFERENCE
            )
        except (ApiError, TransportError) as error:
            raise _unavailable(error) from error
        still = copy(self)
        still._place = {"pit": {"id": opened["id"], "keep_alive": _KEEP_ALIVE}}
        try:
            yield still
        finally:
            with suppress(ApiError, TransportError):  # it ends by itself
                await self._client.close_point_in_time(id=opened["id"])

    # ---------------------------------------------------------------- sums

    async def _exact(self, key: str, found: Mapping[str, Any]) -> Group:
        """The group in an answer; it is added up here where the answer's sums may be rounded."""
        if all(_is_exact(found[each]) for each in self._groups.sums):
            sums = {each: int(found[each]["sum"]) for each in self._groups.sums}
            return Group(key, int(found["doc_count"]), sums)
        shares, totals = 0, dict.fromkeys(self._groups.sums, 0)
        async for page in self.shares(key):
            shares += len(page)
            for name in totals:
                totals[name] += sum(whole(each, name) for each in page)
        return Group(key, shares, totals)

    # ---------------------------------------------------------------- requests

    def _search_filter(self, search: str) -> Mapping[str, Any]:
        words = {"match": {self._groups.field: {"query": search, "operator": "and"}}}
        return {"bool": {"should": [{"term": {self._groups.by: search}}, words]}}

    def _has(self, seen: Seen) -> dict[str, Any]:
        """A query for the document that has the event."""
        if self._projection.every:
            return {"term": {"id": self._projection.of(*seen)}}
        at_least = {"range": {"version": {"gte": seen.version}}}
        return {"bool": {"filter": [{"term": {"id": seen.account_id}}, at_least]}}

    async def _aggregated(
        self, query: Mapping[str, Any], aggs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        answer = await self._search(query=query, aggs=aggs, size=0, filter_path="aggregations")
        found: Mapping[str, Any] = answer["aggregations"]
        return found

    async def _page(
        self, query: Mapping[str, Any], after: list[Any] | None
    ) -> list[dict[str, Any]]:
        answer = await self._search(
            query=query,
            sort=[{"_shard_doc": "asc"}],
            search_after=after,
            size=PAGE,
            source=[self._groups.field, *self._groups.sums],
            filter_path="hits.hits._source,hits.hits.sort",
        )
        hits: list[dict[str, Any]] = answer.get("hits", {}).get("hits", [])
        return hits

    async def _search(self, **search: Any) -> Mapping[str, Any]:
        """No part of an answer if a shard is away: its shares would be missing unseen."""
        try:
            answer = await self._client.search(
                **self._place,
                allow_partial_search_results=False,
                track_total_hits=False,
                **search,
            )
        except (ApiError, TransportError) as error:
            if "pit" in self._place:  # the projection was there, and the moment has ended
                raise ProjectionUnavailable(brief(error)) from error
            raise _unavailable(error) from error
        body: Mapping[str, Any] = answer.body
        return body


def whole(document: Mapping[str, Any], field: str) -> int:
    """A field that is added up; 0 where somebody has written something else into it."""
    there = document.get(field)
    return there if type(there) is int else 0


def _is_exact(stats: Mapping[str, Any]) -> bool:
    """Whether no number on the way to the sum, in any order, was too large to be exact."""
    if not stats["count"] or stats["min"] >= 0:
        return bool(stats["sum"] < EXACT)
    return bool(stats["count"] * max(-stats["min"], abs(stats["max"])) < EXACT)


def _unavailable(error: Exception) -> ProjectionUnavailable:
    if isinstance(error, ApiError) and error.status_code == 404:
        return ProjectionMissing(brief(error))
    return ProjectionUnavailable(brief(error))
