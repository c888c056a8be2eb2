"""One look at a document and at its account's events, pure: how does it differ from their fold?"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol

from pipeline.model.projection import ERA, Document, Projection
from pipeline.search import FoundDocument, Stamp
from pipeline.tables.versioned_document import ReplayedAccount, believed, judged


class DocumentDiff(NamedTuple):
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


class ParkedIds(Protocol):
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
        cls, projection: Projection, document_id: str, diff: DocumentDiff, parked: ParkedIds
    ) -> "Difference":
        """What such a look says, if it is the last word."""
        what: Kind = "differs"
        if diff.what == "missing" or diff.what == "extra":
            what = diff.what
        account_id = projection.account_id(document_id)
        return cls(account_id, what, diff.fields, account_id in parked, document_id)

    def as_json(self) -> dict[str, Any]:
        fields = {name: {"is": a, "should_be": b} for name, (a, b) in self.fields.items()}
        return {**asdict(self), "fields": fields}


def diff_document(
    document_id: str, found: FoundDocument | None, account: ReplayedAccount
) -> DocumentDiff:
    """Compare a document with what its account's events, which were read after it, come to."""
    projection = account.projection
    document = account.documents.get(document_id)
    wanted = document["version"] if document else 0
    if found is None:
        return DocumentDiff("missing" if document else "right", None, 0, wanted, {})
    if document is None:
        return DocumentDiff("extra", found.stamp, 0, 0, {})
    state, there = judged(found, account, document_id), believed(projection, found)
    if state is None:
        return DocumentDiff("right", found.stamp, wanted, wanted, {})
    fields = _differing(found, document)
    if state.raised or there is None:
        return DocumentDiff("differs", found.stamp, 0, wanted, fields)
    return DocumentDiff("behind", found.stamp, there.document["version"], wanted, fields)


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
