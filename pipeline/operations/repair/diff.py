"""One look at a document and at its account's events, pure: how does it differ from their fold?"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol

from pipeline.model.projection import ERA, Document, Projection
from pipeline.search import FoundDocument, Stamp
from pipeline.tables.versioned_document import ReplayedAccount, reconcile, trusted


class Look(NamedTuple):
    """What was seen: the document with that `stamp`, None if there was none.

    `behind`: it is right, but only up to `version`; the store is at `wanted`. `fields` has, of all
    that differ, what is there and what should be.
    """

    what: Literal["right", "behind", "missing", "differs", "extra"]
    stamp: Stamp | None
    version: int
    wanted: int
    fields: dict[str, tuple[Any, Any]]


Kind = Literal["differs", "missing", "extra"]


class WaitingDocument(Protocol):
    """The accounts that are parked."""

    def __contains__(self, account_id: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """A document that is not what the store says. `fields` has, of those that differ, what is
    there and what should be; `parked`: its account waits for somebody to mend an event."""

    account_id: str
    what: Kind
    fields: dict[str, tuple[Any, Any]]
    parked: bool
    document_id: str

    @classmethod
    def of(
        cls, projection: Projection, document_id: str, look: Look, parked: WaitingDocument
    ) -> "Difference":
        """What such a look says, if it is the last word."""
        what: Kind = "differs"
        if look.what == "missing" or look.what == "extra":
            what = look.what
        account_id = projection.account_id(document_id)
        return cls(account_id, what, look.fields, account_id in parked, document_id)

    def as_json(self) -> dict[str, Any]:
        fields = {name: {"is": a, "should_be": b} for name, (a, b) in self.fields.items()}
        return {**asdict(self), "fields": fields}


def look(document_id: str, found: FoundDocument | None, truth: ReplayedAccount) -> Look:
    """Compare a document with what its account's events, which were read after it, come to."""
    projection = truth.projection
    document = truth.documents.get(document_id)
    wanted = document["version"] if document else 0
    if found is None:
        return Look("missing" if document else "right", None, 0, wanted, {})
    if document is None:
        return Look("extra", found.stamp, 0, 0, {})
    state, there = reconcile(found, truth, document_id), trusted(projection, found)
    if state is None:
        return Look("right", found.stamp, wanted, wanted, {})
    fields = _differing(found, document)
    if state.raised or there is None:
        return Look("differs", found.stamp, 0, wanted, fields)
    return Look("behind", found.stamp, there.document["version"], wanted, fields)


def _differing(found: FoundDocument, document: Document) -> dict[str, tuple[Any, Any]]:
    there, wanted = found.source, dict(document)
    fields = {
        name: (there.get(name), wanted.get(name))
        for name in sorted(there.keys() | wanted.keys())
        if name not in there or name not in wanted or there[name] != wanted[name]
    }
    if not fields:  # only the number that Elasticsearch keeps is not ours
        fields["_version"] = (found.version, found.version // ERA * ERA + document["version"])
    return fields
