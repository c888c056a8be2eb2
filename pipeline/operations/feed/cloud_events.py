"""An event as CloudEvents 1.0 in JSON: `data` is the event."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NotRequired

import orjson
from typing_extensions import TypedDict

from pipeline.model.events import rfc3339
from pipeline.operations.feed.reader import Item

MEDIA_TYPE: Final = "application/cloudevents+json"
_JSON: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


class CloudEvent(TypedDict):
    """An event in its envelope. `id` is the event's own: whoever drops repeats goes by it. `type`
    is its kind, `subject` its account, `version` counts the account's events, and `position` is
    where to go on after it."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: NotRequired[str]
    datacontenttype: str
    dataschema: str
    version: int
    position: str
    correlationid: NotRequired[str]
    causationid: NotRequired[str]
    traceparent: NotRequired[str]
    data: dict[str, Any]


_COPIED: Final = {
    "correlation_id": "correlationid",
    "causation_id": "causationid",
    "traceparent": "traceparent",
}


def encoded(items: Iterable[Item], application: str, schemas: str) -> Iterator[bytes]:
    """Each as a line of JSON. One that JSON can't hold is left out: the log has none either.

    `schemas`: the address below which the schemas are, `…/schemas`.
    """
    for item in items:
        try:
            yield orjson.dumps(cloud_event(item, application, schemas), option=_JSON)
        except (TypeError, ValueError):  # somebody has written it by hand
            continue


def cloud_event(item: Item, application: str, schemas: str) -> dict[str, Any]:
    """The envelope of the event."""
    event: Mapping[str, Any] = item.event
    kind = str(event.get("kind") or "unknown")
    made = {
        "specversion": "1.0",
        "id": str(event.get("_id")),
        "source": f"/{application}",
        "type": kind,
        "subject": event["account_id"],
        "datacontenttype": "application/json",
        "dataschema": f"{schemas}/{kind}/{event.get('schema', 1)}",
        "version": int(event["version"]),
        "position": str(item.position),
    }
    if isinstance(at := event.get("created_at"), str | datetime):
        made["time"] = rfc3339(at)
    for name, attribute in _COPIED.items():
        if isinstance(value := event.get(name), str) and value:
            made[attribute] = value
    return {**made, "data": event}
