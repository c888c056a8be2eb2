"""How does a document differ from the fold of its account's events? Pure: reads no server."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol

from pipeline.model.projection import ERA, Document, Projection
from pipeline.search import FoundDocument, Stamp
from pipeline.tables.versioned_document import ReplayedAccount, reconcile, trusted


class DocumentDiff(NamedTuple):
    """A document compared with its events. `stamp`: of the document that was read, None for none.

    `behind`: it is right up to `version`, and the `newest` event is a later one. `fields`: of each
    that differs, its value and the value that it should have.
    """

    what: Literal["right", "behind", "missing", "differs", "extra"]
    stamp: Stamp | None
    version: int
    newest: int
    fields: dict[str, tuple[Any, Any]]


Kind = Literal["differs", "missing", "extra"]


class ParkedIds(Protocol):
    """The ids of the accounts that are parked."""

    def __contains__(self, account_id: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """A document that differs from its events. `fields`: of each that differs, its value and the
    value that it should have; `parked`: its account is parked at an event that can't be applied."""

    account_id: str
    what: Kind
    fields: dict[str, tuple[Any, Any]]
    parked: bool
    document_id: str

    @classmethod
    def of(
        cls, projection: Projection, document_id: str, diff: DocumentDiff, parked: ParkedIds
    ) -> "Difference":
        """The difference that such a comparison found."""
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
    """Compare a document with its account, whose events were read after it."""
    projection = account.projection
    document = account.documents.get(document_id)
    newest = document["version"] if document else 0
    if found is None:
        return DocumentDiff("missing" if document else "right", None, 0, newest, {})
    if document is None:
        return DocumentDiff("extra", found.stamp, 0, 0, {})
    state, there = reconcile(found, account, document_id), trusted(projection, found)
    if state is None:
        return DocumentDiff("right", found.stamp, newest, newest, {})
    fields = _differing(found, document)
    if state.raised or there is None:
        return DocumentDiff("differs", found.stamp, 0, newest, fields)
    return DocumentDiff("behind", found.stamp, there.document["version"], newest, fields)


def _differing(found: FoundDocument, document: Document) -> dict[str, tuple[Any, Any]]:
    there, wanted = found.source, dict(document)
    fields = {
        name: (there.get(name), wanted.get(name))
        for name in sorted(there.keys() | wanted.keys())
        if name not in there or name not in wanted or there[name] != wanted[name]
    }
    if not fields:  # only the version that Elasticsearch keeps beside the document differs
        fields["_version"] = (found.version, found.version // ERA * ERA + document["version"])
    return fields
