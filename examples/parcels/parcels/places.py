"""Where each parcel is: one document for each."""

from typing import Any

from pipeline.model.events import Event
from pipeline.model.projection import Projection


def after(document: dict[str, Any], event: Event) -> dict[str, Any]:
    body = event["body"]
    match event["kind"]:
        case "ParcelSent":
            return {"to": body["to"], "at": "sender", "scans": 0}
        case "ParcelScanned":
            return document | {"at": body["place"], "scans": document["scans"] + 1}
        case "ParcelDelivered":
            return document | {"at": document["to"]}
        case "ParcelSearched":
            return document | {"at": "unknown"}
    raise ValueError("no event of a parcel")


PLACES = Projection(
    "places",
    after,
    {"to": {"type": "text"}, "at": {"type": "keyword"}, "scans": {"type": "integer"}},
)
