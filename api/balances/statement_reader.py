"""Reads an account's statement from the second projection, page by page."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from api.http.cursors import decode, encode
from pipeline.banking.statement import STATEMENT
from pipeline.model.events import rfc3339
from pipeline.search.reader import DocumentReader
from pipeline.support.access import ServerAccess


class EntryQuery(NamedTuple):
    """Filter, order and page of entries: those of some `kinds`, from `since` on and before `until`;
    `after` is the cursor of the page before, or the version of its last entry. `reference`: those
    with exactly this one; `search`: those whose description has all these words."""

    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: str | int | None = None
    newest_first: bool = True
    limit: int = 20
    reference: str = ""
    search: str = ""


class StatementReader(DocumentReader):
    """Every call raises `ProjectionUnavailable` when it gets no answer."""

    def __init__(self, at: ServerAccess | str) -> None:
        super().__init__(at, STATEMENT)

    async def page(
        self, account_id: str, wanted: EntryQuery
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` entries, and the cursor of the next page, if there are more. New ones show
        within a second. Raises `UnknownCursor`."""
        order = "desc" if wanted.newest_first else "asc"
        listing = f"statement {order}"
        after: Sequence[Any] | None = None
        if isinstance(wanted.after, str):
            after = decode(wanted.after, listing, [int])
        elif wanted.after is not None:
            after = [wanted.after]
        found, last = await self.search(
            _filter(account_id, wanted),
            sort=[{"version": {"order": order}}],
            after=after,
            limit=wanted.limit,
        )
        return found, None if last is None else encode(listing, last)


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
