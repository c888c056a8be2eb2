"""Reads the projection `balance`: an account's document by its id, and pages of accounts."""

import re
from collections.abc import Iterator
from typing import Any, Final

from api.http.cursors import UnknownCursor, decode, encode
from pipeline.banking.balance import BALANCE
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.text import forms
from pipeline.search.reader import DocumentReader
from pipeline.support.access import ServerAccess

SORTS: Final[dict[str, tuple[str, type]]] = {
    "id": ("id", str),
    "owner": ("owner.keyword", str),
    "balance": ("balance", int),
    "status": ("status", str),
    "version": ("version", int),
    "updated_at": ("updated_at", int),
}
"""What pages can be sorted by: the field that sorts them, and of what type its sort values are."""


class BalanceReader(DocumentReader):
    """Every call raises `ProjectionUnavailable` when it gets no answer."""

    def __init__(self, at: ServerAccess | str) -> None:
        super().__init__(at, BALANCE)

    async def page(
        self,
        *,
        owner: str | None = None,
        search: str | None = None,
        sort: str = "owner",
        descending: bool = False,
        limit: int = 10,
        after: str | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` documents, and the cursor of the next page, if there are more; equal ones
        come in order of id.

        `owner` is exact, in either of Unicode's forms: an event of an earlier release may have a
        decomposed one. `search` is an id, or words of the owner's name, the last of which may be
        unfinished. `sort` is one of `SORTS`, `after` the cursor of the last page, or the id of its
        last document: then the page begins where that one is now (`UnknownCursor`).
        """
        if sort not in SORTS:
            raise ValueError(f"can't sort by {sort!r}: {', '.join(SORTS)}")
        field, kind = SORTS[sort]
        order = [{field: {"order": "desc" if descending else "asc"}}]
        kinds = [kind]
        if sort != "id":
            order.append({"id": {"order": "asc"}})
            kinds.append(str)
        listing = f"balance {'-' if descending else ''}{sort}"
        values = None
        if after is not None and re.fullmatch(ACCOUNT_ID, after):
            values = await self.sort_values(after, order)
            if values is None:
                raise UnknownCursor("No document of that account")
        elif after is not None:
            values = decode(after, listing, kinds)
        filters = list(_filters(owner, search))
        found, last = await self.search(filters, sort=order, after=values, limit=limit)
        return found, None if last is None else encode(listing, last)


def _filters(owner: str | None, search: str | None) -> Iterator[dict[str, Any]]:
    """Filters: no document is scored, and the order of words does not matter."""
    if owner is not None:
        yield {"terms": {"owner.keyword": list(forms(owner))}}
    if search is not None and re.fullmatch(ACCOUNT_ID, search):
        yield {"term": {"id": search}}
    elif search is not None:
        words = [{"query": each, "operator": "and"} for each in forms(search)]
        yield _any([{"match_bool_prefix": {"owner": each}} for each in words])


def _any(queries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"bool": {"should": queries}} if len(queries) > 1 else queries[0]
