"""Reads any projection: pages of its documents, sorted by any field that can be sorted by."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from api.http.cursors import decode, encode
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
        self._fields: Mapping[str, Mapping[str, Any]] = projection.mapping["properties"]

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

        `search`: those that have this as a whole keyword, or all its words in one text. A leading
        `-` in `sort` means descending. `among`: filters besides. Raises `NotSortable` and
        `UnknownCursor`.
        """
        name = sort.removeprefix("-")
        field, kind = self._sort_field(name)
        order = [{field: {"order": "desc" if sort.startswith("-") else "asc"}}]
        kinds = [kind]
        if name != "id":
            order.append({"id": {"order": "asc"}})
            kinds.append(str)
        listing = f"projection {self._name} {sort}"
        found, last = await self.search(
            [*among, *self._filters(search)],
            sort=order,
            after=None if after is None else decode(after, listing, kinds),
            limit=limit,
        )
        return found, None if last is None else encode(listing, last)

    def _sort_field(self, name: str) -> tuple[str, type]:
        """The field in the index that sorts by this one, and the type of its sort values."""
        about = self._fields.get(name, {})
        for place, kind in ((name, about), *_within(name, about)):
            if (sorted_as := _SORTED_AS.get(kind.get("type", ""))) is not None:
                return place, sorted_as
        known = [each for each, about in self._fields.items() if about.get("type") in _SORTED_AS]
        raise NotSortable(f"Must be one of {', '.join(sorted(known))}")

    def _filters(self, search: str | None) -> Iterator[Mapping[str, Any]]:
        """Filters: no document is scored."""
        if search is not None:
            wanted = {"query": search, "operator": "and"}
            names = [each for each, about in self._fields.items() if about["type"] in _SEARCHED]
            yield {"bool": {"should": [{"match": {each: wanted}} for each in names]}}


def _within(name: str, about: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """The other ways in which a field is indexed, such as a text's keyword."""
    return [(f"{name}.{each}", kind) for each, kind in about.get("fields", {}).items()]
