"""A small application of the tests' own: parcels, where each is, and each of its scans."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pipeline.application import Application, Invariant
from pipeline.model.claims import CLAIM
from pipeline.model.events import Event
from pipeline.model.projection import Projection

SENT: Final = "ParcelSent"
SCANNED: Final = "ParcelScanned"


def place(document: Any, event: Event) -> Mapping[str, Any]:
    """Where a parcel is."""
    body = event["body"]
    if event["kind"] == SENT:
        return {"to": body["to"], "at": body["at"], "scans": 0}
    if event["kind"] != SCANNED or document is None:
        raise ValueError("no parcel")
    return {"to": document["to"], "at": body["at"], "scans": document["scans"] + 1}


def scan(document: Any, event: Event) -> Mapping[str, Any]:
    """One scan, or the sending."""
    return {"at": event["body"]["at"]}


PLACES: Final = Projection(
    "places",
    place,
    {"to": {"type": "text"}, "at": {"type": "keyword"}, "scans": {"type": "integer"}},
)
WITHOUT_CLAIMS: Final = Projection(
    "places",
    place,
    {each: PLACES.mapping["properties"][each] for each in ("to", "at", "scans")},
    without=CLAIM.schemas,
)
"""As an application with claims would have it."""
SCANS: Final = Projection("scans", scan, {"at": {"type": "keyword"}}, every=True)


class SentOnce:
    """A parcel is sent by its first event, and by no other."""

    def __init__(self) -> None:
        self.sent = 0

    def enter(self, event: Event) -> Iterator[str]:
        sent = event["kind"] == SENT
        self.sent += sent
        if sent != (event["version"] == 1):
            yield f"parcel {event['account_id']}: {event['kind']} is version {event['version']}"

    def end(self) -> Iterable[str]:
        return ()


POST: Final = Application(
    "post",
    projections=[PLACES, SCANS],
    invariants=[Invariant(101, "a parcel is sent once", SentOnce)],
)
