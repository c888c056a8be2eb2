"""Reads an account's statement from the second projection, page by page."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from elasticsearch import ApiError, TransportError

from pipeline.banking.statement import STATEMENT
from pipeline.model.events import rfc3339
from pipeline.search.client import connect
from pipeline.search.reader import TIMEOUT
from pipeline.search.values import ProjectionUnavailable
from pipeline.support.access import ServerAccess
from pipeline.support.retry import brief

_HITS: Final = "hits.hits._source"


class EntryQuery(NamedTuple):
    """Filter, order and page of entries: those of some `kinds`, from `since` on and before `until`;
    `after` is the version of the last entry of the page before."""

    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None
    newest_first: bool = True
    limit: int = 20


class Statements:
    """The statements' index. Every call raises `ProjectionUnavailable` without an answer."""

    def __init__(self, at: ServerAccess | str) -> None:
        self._client = connect(at, TIMEOUT)

    async def page(self, account_id: str, wanted: EntryQuery) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` entries, and whether there are more. New ones show within a second."""
        order = "desc" if wanted.newest_first else "asc"
        try:
            answer = await self._client.search(
                index=STATEMENT.name,
                query={"bool": {"filter": _filter(account_id, wanted)}},
                sort=[{"version": {"order": order}}],
                search_after=None if wanted.after is None else [wanted.after],
                size=wanted.limit + 1,
                track_total_hits=False,
                filter_path=_HITS,
            )
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        hits = answer.body.get("hits", {}).get("hits", [])
        return [hit["_source"] for hit in hits[: wanted.limit]], len(hits) > wanted.limit

    async def close(self) -> None:
        await self._client.close()


def _filter(account_id: str, wanted: EntryQuery) -> list[Mapping[str, Any]]:
    times = {"gte": wanted.since, "lt": wanted.until}
    between = {name: rfc3339(moment) for name, moment in times.items() if moment is not None}
    found: list[Mapping[str, Any]] = [{"term": {"account_id": account_id}}]
    if wanted.kinds:
        found.append({"terms": {"kind": list(wanted.kinds)}})
    if between:
        found.append({"range": {"at": between}})
    return found
