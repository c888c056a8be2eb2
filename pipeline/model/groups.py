"""Groups of a projection's documents, pure: a read model over several streams.

    Projection("balance", after, {…}, groups=[Groups("owners", by="owner.keyword")])

Each document is its account's share in one group, the one that it names. It is kept by the
account's version, so whatever comes twice, late or in a replay changes no share and no sum. Nobody
writes a group: it is what its shares add up to when it is read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.model.names import is_name

_SUMMED: Final = ("long", "integer")


@dataclass(frozen=True)
class Groups:
    """`by`: the field with the key of a document's group, a keyword, or one within a text such as
    `owner.keyword`. `sums`: the fields that are added up, whole numbers. None of these may be null.
    """

    name: str
    by: str
    sums: Sequence[str] = ()

    @property
    def field(self) -> str:
        """The field of the document that `by` is of."""
        return self.by.partition(".")[0]

    def key(self, value: object, mapping: Mapping[str, Any]) -> str | None:
        """The group of a document with that value in its `field`; None if it is in none: a keyword
        longer than `ignore_above`, in UTF-16 units, is not indexed."""
        if value is None:
            return None
        most = _at(mapping["properties"], self.by).get("ignore_above")
        key = str(value)
        return None if most is not None and len(key.encode("utf-16-le")) > 2 * most else key

    def require_fitting(self, shape: Mapping[str, Any], optional: Iterable[str]) -> None:
        """Raise `ValueError` unless documents with that mapping can be grouped and summed."""
        if not is_name(self.name):
            raise ValueError(f"{self.name!r} is no name: lower case letters, digits and _")
        if _at(shape, self.by).get("type") != "keyword":
            raise ValueError(f"{self.name}: {self.by} is no keyword to group by")
        for each in self.sums:
            if _at(shape, each).get("type") not in _SUMMED:
                raise ValueError(f"{self.name}: {each} is no whole number to add up")
        for each in (self.field, *self.sums):
            if each in optional:
                raise ValueError(f"{self.name}: {each} may be null")


def _at(shape: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """How a field, or one within it, is indexed."""
    name, _, within = place.partition(".")
    about: Mapping[str, Any] = shape.get(name, {})
    return about.get("fields", {}).get(within, {}) if within else about
