"""Reads an account's statement from the second projection, page by page."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.banking.statement import STATEMENT
from pipeline.model.events import rfc3339
from pipeline.search.reader import DocumentReader
from pipeline.support.access import ServerAccess


class EntryQuery(NamedTuple):
    """Filter, order and page of entries: those of some `kinds`, from `since` on and before `until`;
    `after` is the version of the last entry of the page before. `reference`: those with exactly
    this one; `search`: those whose description has all these words."""

    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None
    newest_first: bool = True
    limit: int = 20
    reference: str = ""
    search: str = ""


class StatementReader(DocumentReader):
    """Every call raises `ProjectionUnavailable` when it gets no answer."""

    def __init__(self, at: ServerAccess | str) -> None:
        super().__init__(at, STATEMENT)

    async def page(self, account_id: str, wanted: EntryQuery) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` entries, and whether there are more. New ones show within a second."""
        return await self.search(
            _filter(account_id, wanted),
            sort=[{"version": {"order": "desc" if wanted.newest_first else "asc"}}],
            after=None if wanted.after is None else [wanted.after],
            limit=wanted.limit,
        )


def _filter(account_id: str, wanted: EntryQuery) -> list[Mapping[str, Any]]:
    times = {"gte": wanted.since, "lt": wanted.until}
    between = {name: rfc3339(moment) for name, moment in times.items() if moment is not None}
    found: list[Mapping[str, Any]] = [{"term": {"account_id": account_id}}]
    if wanted.kinds:
        found.append({"terms": {"kind": list(wanted.kinds)}})
    if between:
        found.append({"range": {"at": between}})
    if wanted.reference:
        found.append({"term": {"reference": wanted.reference}})
    if wanted.search:
        found.append({"match": {"description": {"query": wanted.search, "operator": "and"}}})
    return found
