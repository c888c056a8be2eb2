"""Reads the projection `balance`: an account's document by its id, and pages of accounts."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from api.balances.orders import Field, Order, as_indexed, continued
from api.http.cursors import UnknownCursor
from pipeline.banking.balance import BALANCE
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.plain import plain
from pipeline.model.text import forms
from pipeline.search.reader import DocumentReader
from pipeline.support.access import ServerAccess

SORTS: Final[dict[str, Field]] = {
    "id": ("id", str),
    "owner": ("owner.keyword", str),
    "balance": ("balance", int),
    "status": ("status", str),
    "version": ("version", int),
    "updated_at": ("updated_at", int),
}
"""What pages can be sorted by: the field that sorts them, and of what type its sort values are."""

_PLAIN: Final = "owner_plain"
_PART_OF_ID: Final = re.compile("(?=.*[0-9]|.{8})[0-9A-HJKMNP-TV-Z]{4,26}", re.IGNORECASE)
"""Other words mean a name. This is looked for in every id, which costs more than a name does."""


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
        decomposed one. `search` is words of the owner's name, the last of which may be unfinished,
        without regard to case and marks; or an id, or a part of one: eight characters, or four with
        a digit. `sort` is one of `SORTS`, by owner in order of plain forms. `after` is the cursor
        of the last page, or the id of its last document: then the page begins where that one is now
        (`UnknownCursor`).
        """

        async def read(has_plain: bool) -> tuple[list[dict[str, Any]], str | None]:
            order, values = await self._begin(_orders(sort, descending, has_plain), after)
            filters = list(_filters(owner, search, has_plain))
            found, last = await self.search(filters, sort=order.sort, after=values, limit=limit)
            return found, order.cursor(last)

        return await as_indexed(self, read)

    async def _begin(
        self, orders: Sequence[Order], after: str | None
    ) -> tuple[Order, Sequence[Any] | None]:
        """The order of the page, and the sort values behind which it begins."""
        if after is None:
            return orders[0], None
        if not re.fullmatch(ACCOUNT_ID, after):
            return continued(orders, after)
        values = await self.sort_values(after, orders[0].sort)
        if values is None:
            raise UnknownCursor("No document of that account")
        return orders[0], values


def _orders(sort: str, descending: bool, has_plain: bool) -> Sequence[Order]:
    """Where pages begin in that order, and how others go on that a former release began."""
    if sort not in SORTS:
        raise ValueError(f"can't sort by {sort!r}: {', '.join(SORTS)}")
    listing = f"balance {'-' if descending else ''}{sort}"
    exact = Order(listing, [SORTS[sort]], descending)
    if sort != "owner":
        return [exact]
    by_plain = [(f"{_PLAIN}.keyword", str), SORTS[sort]]
    in_plain = Order(f"{listing}, plain", by_plain, descending)
    return [in_plain, exact] if has_plain else [exact]


def _filters(owner: str | None, search: str | None, has_plain: bool) -> Iterator[dict[str, Any]]:
    """Filters: no document is scored, and the order of words does not matter."""
    if owner is not None:
        yield {"terms": {"owner.keyword": list(forms(owner))}}
    if search is not None and re.fullmatch(ACCOUNT_ID, search.upper()):
        yield {"term": {"id": search.upper()}}
    elif search is not None:
        where, words = (_PLAIN, (plain(search),)) if has_plain else ("owner", forms(search))
        ways: list[dict[str, Any]] = [
            {"match_bool_prefix": {where: {"query": each, "operator": "and"}}} for each in words
        ]
        if _PART_OF_ID.fullmatch(search.strip()):
            ways.append({"wildcard": {"id": f"*{search.strip().upper()}*"}})
        yield ways[0] if len(ways) == 1 else {"bool": {"should": ways}}
