"""Orders of documents in pages, and the cursors of their lists."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from api.http.cursors import UnknownCursor, Value, decode, encode
from pipeline.search.reader import DocumentReader

T = TypeVar("T")

Field = tuple[str, type]
"""A field of the index, and the type of its sort values."""


@dataclass(frozen=True, slots=True)
class Order:
    """By some fields in one direction, then by id. `listing` is what its cursors call the list."""

    listing: str
    fields: Sequence[Field]
    descending: bool = False

    @property
    def sort(self) -> list[dict[str, Any]]:
        direction = "desc" if self.descending else "asc"
        # An index that an older release made may lack a field.
        by = [
            {name: {"order": direction, "unmapped_type": "long" if kind is int else "keyword"}}
            for name, kind in self.fields
        ]
        return by if self._by_id else [*by, {"id": {"order": "asc"}}]

    def cursor(self, values: Sequence[Value] | None) -> str | None:
        """The cursor behind a document with these sort values; None: it is the last one."""
        return None if values is None else encode(self.listing, values)

    def values(self, cursor: str) -> list[Value]:
        """The sort values in a cursor of this list; raises `UnknownCursor`."""
        kinds = [kind for _, kind in self.fields]
        return decode(cursor, self.listing, kinds if self._by_id else [*kinds, str])

    @property
    def _by_id(self) -> bool:
        return [name for name, _ in self.fields] == ["id"]


def continued(orders: Sequence[Order], cursor: str) -> tuple[Order, list[Value]]:
    """The order that the cursor is of, so that a walk goes on in the order in which it began, and
    its sort values; raises `UnknownCursor`."""
    *others, last = orders
    for order in others:
        try:
            return order, order.values(cursor)
        except UnknownCursor:
            continue
    return last, last.values(cursor)


async def as_indexed(reader: DocumentReader, read: Callable[[bool], Awaitable[T]]) -> T:
    """What `read` returns, which is called with whether the index has plain forms. If it does not
    know its cursor, another process may have seen a new index before this one did."""
    has_plain = await reader.has_plain()
    try:
        return await read(has_plain)
    except UnknownCursor:
        if has_plain or not await reader.has_plain(now=True):
            raise
        return await read(True)
