"""Reads the projection `balance`: an account's document by its id, and pages of accounts."""

import re
from collections.abc import Iterator
from typing import Any, Final

from pipeline.banking.balance import BALANCE
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.text import forms
from pipeline.search.reader import DocumentReader, UnknownCursor
from pipeline.support.access import ServerAccess

SORTS: Final = {
    "id": "id",
    "owner": "owner.keyword",
    "balance": "balance",
    "status": "status",
    "version": "version",
    "updated_at": "updated_at",
}
"""What pages can be sorted by, and the field that sorts them."""


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
    ) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` documents, and whether there are more; equal ones come in order of id.

        `owner` is exact, in either of Unicode's forms: an event of an earlier release may have a
        decomposed one. `search` is an id, or words of the owner's name, the last of which may be
        unfinished. `sort` is one of `SORTS`, `after` the id of the last page's last document
        (`UnknownCursor`).
        """
        if sort not in SORTS:
            raise ValueError(f"can't sort by {sort!r}: {', '.join(SORTS)}")
        direction = "desc" if descending else "asc"
        order = [{SORTS[sort]: {"order": direction}}]
        if sort != "id":
            order.append({"id": {"order": "asc"}})
        cursor = await self._cursor(after, sort) if after is not None else None
        filters = list(_filters(owner, search))
        return await self.search(filters, sort=order, after=cursor, limit=limit)

    async def _cursor(self, account_id: str, sort: str) -> list[Any]:
        document = await self.get(account_id)
        if document is None or not isinstance(document.get(sort), str | int):
            raise UnknownCursor(account_id)  # also of a document that somebody changed by hand
        return [document[sort]] if sort == "id" else [document[sort], account_id]


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
