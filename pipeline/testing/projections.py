"""The documents of a projection after some events.

projected(PLACES, sent, scanned).shows({"to": "Porto", "at": "Lisboa", "scans": 1})
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline.model.events import Event, decode, encode
from pipeline.model.projection import Document, Projection
from pipeline.model.upcasters import going_by, upcast
from pipeline.testing.differences import require_equal, unchanged
from pipeline.testing.envelopes import Before, history

if TYPE_CHECKING:
    from pipeline.application import Application

_ADDED: Final = frozenset(Document.__annotations__)
"""Fields that the engine adds to every document."""


class Projected:
    """What a projection makes of the events of one aggregate."""

    def __init__(self, projection: Projection, documents: Sequence[Document]) -> None:
        self._projection, self._documents = projection, documents

    def shows(self, *expected: Mapping[str, Any] | None) -> None:
        """This document, or, of a projection that keeps the one of every event, these. None stands
        for no document. Raises `AssertionError`.

        `id`, `version` and what else the engine adds is compared only where it is named.
        """
        __tracebackhide__ = True
        wanted = [{**each} for each in expected if each is not None]
        added = _ADDED | ({"account_id"} if self._projection.every else set())
        added |= {*self._projection.plain.values()}
        left_out = added.difference(*wanted)
        shown = [
            {field: value for field, value in each.items() if field not in left_out}
            for each in self._documents
        ]
        require_equal(f"{self._projection.name} shows", wanted, shown)


def projected(
    projection: Projection, *before: Before, application: "Application | None" = None
) -> Projected:
    """Fold what has happened to one aggregate. Pure.

    Events of older schemas are brought to the newest by the upcasters of the `application`, by
    default of the one that the process runs.

    Raises `Unfoldable` for an event that the projection can't fold, and `AssertionError` if it
    changes a document or an event, and for documents that it could not keep: they do not fit its
    mapping, or it makes another one of an event from the store than of the same event from the
    stream, where times are texts.
    """
    if application is not None:
        with going_by(application.name, application.upcasters):
            return projected(projection, *before)
    events = [upcast(each) for each in history(before, lambda _: None)]
    documents = _documents(projection, events)
    for each in documents:
        if not projection.sound(each["version"], each):
            raise AssertionError(
                f"{projection.name} can't keep {each}: it must have exactly the fields of the "
                f"mapping, each with one value of its type and no list, "
                f"{dict(projection.mapping['properties'])}"
            )
    streamed = [decode(encode(each)) for each in events]
    what = f"{projection.name} makes another document of an event from the stream"
    require_equal(what, documents, _documents(projection, streamed))
    return Projected(projection, documents)


def _documents(projection: Projection, events: Sequence[Event]) -> Sequence[Document]:
    documents: list[Document] = []
    for event in projection.about(events):
        documents.append(_folded(projection, documents[-1] if documents else None, event))
    return documents if projection.every else documents[-1:]


def _folded(projection: Projection, document: Document | None, event: Event) -> Document:
    with unchanged(projection.name, lambda: [document, event]):
        return projection.fold(document, event)
