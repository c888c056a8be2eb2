"""The kind and body of an event, read only in the newest schema of its kind."""

from collections.abc import Mapping
from typing import Any

from pipeline.model.events import Event
from pipeline.model.upcasters import newest


def known(event: Event) -> bool:
    """Whether the event has the newest schema of its kind, to which the store upcasts what it
    can."""
    return bool(event.get("schema", 1) == newest(kind_of(event)))


def kind_of(event: Event) -> str:
    """The event's kind; empty if that is no text."""
    kind: object = event.get("kind")
    return kind if isinstance(kind, str) else ""


def body_of(event: Event) -> Mapping[str, Any]:
    """The event's body; empty if its schema is unknown or it is no object."""
    body: object = event.get("body")
    return body if known(event) and isinstance(body, dict) else {}
