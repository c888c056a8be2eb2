"""Reads any projection: pages of its documents, sorted by any field that can be sorted by."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from api.balances.orders import Field, Order, as_indexed, continued
from pipeline.model.plain import plain
from pipeline.model.projection import Projection
from pipeline.search.reader import DocumentReader
from pipeline.support.access import ServerAccess

_SORTED_AS: Final = {"keyword": str, "date": int, "long": int, "integer": int}
"""The types of fields that pages can be sorted by, and those of their sort values."""
_SEARCHED: Final = ("keyword", "text")


class NotSortable(Exception):
    """The projection has no such field, or none to sort by; the message says it to the client."""


class ProjectionReader(DocumentReader):
    """Every call raises `ProjectionUnavailable` when it gets no answer."""

    def __init__(self, at: ServerAccess | str, projection: Projection) -> None:
        super().__init__(at, projection)
        self._name = projection.name
        self._plain = projection.plain
        shape: Mapping[str, Mapping[str, Any]] = projection.mapping["properties"]
        self._fields = {name: shape[name] for name in shape if name not in self._plain.values()}

    async def page(
        self,
        *,
        search: str | None = None,
        sort: str = "id",
        limit: int = 20,
        after: str | None = None,
        among: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` documents, and the cursor of the next page, if there are more; equal ones
        come in order of id.

        `search`: those that have this as a whole keyword, or all its words in one text, without
        regard to marks where the projection has its plain form; then it sorts by that. A leading
        `-` in `sort` means descending. `among`: filters besides. Raises `NotSortable` and
        `UnknownCursor`.
        """

        async def read(has_plain: bool) -> tuple[list[dict[str, Any]], str | None]:
            orders = self._orders(sort, has_plain)
            order, values = (orders[0], None) if after is None else continued(orders, after)
            filters = [*among, *self._filters(search, has_plain)]
            found, last = await self.search(filters, sort=order.sort, after=values, limit=limit)
            return found, order.cursor(last)

        return await as_indexed(self, read)

    def _orders(self, sort: str, has_plain: bool) -> Sequence[Order]:
        """Where pages begin in that order, and how others go on that a former release began."""
        name, descending = sort.removeprefix("-"), sort.startswith("-")
        field, listing = self._sort_field(name), f"projection {self._name} {sort}"
        exact = Order(listing, [field], descending)
        if not has_plain or name not in self._plain:
            return [exact]
        by_plain = [(f"{self._plain[name]}.keyword", str), field]
        return [Order(f"{listing}, plain", by_plain, descending), exact]

    def _sort_field(self, name: str) -> Field:
        """The field in the index that sorts by this one, and the type of its sort values."""
        about = self._fields.get(name, {})
        for place, kind in ((name, about), *_within(name, about)):
            if (sorted_as := _SORTED_AS.get(kind.get("type", ""))) is not None:
                return place, sorted_as
        known = [each for each, about in self._fields.items() if about.get("type") in _SORTED_AS]
        raise NotSortable(f"Must be one of {', '.join(sorted(known))}")

    def _filters(self, search: str | None, has_plain: bool) -> Iterator[Mapping[str, Any]]:
        """Filters: no document is scored."""
        if search is not None:
            names = [each for each, about in self._fields.items() if about["type"] in _SEARCHED]
            wanted = dict.fromkeys(names, search)
            if has_plain:
                wanted |= dict.fromkeys(self._plain.values(), plain(search))
            ways = [
                {"match": {name: {"query": words, "operator": "and"}}}
                for name, words in wanted.items()
            ]
            yield {"bool": {"should": ways}}


def _within(name: str, about: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """The other ways in which a field is indexed, such as a text's keyword."""
    return [(f"{name}.{each}", kind) for each, kind in about.get("fields", {}).items()]
