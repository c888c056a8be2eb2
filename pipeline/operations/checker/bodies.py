"""What an event says happened, if it is in a form that is known; nothing else is believed."""

from collections.abc import Mapping
from typing import Any

from pipeline.model.events import Event
from pipeline.model.upcasters import newest


def known(event: Event) -> bool:
    """Whether the event has the newest schema of its kind, as the store hands all out it can."""
    return bool(event.get("schema", 1) == newest(kind_of(event)))


def kind_of(event: Event) -> str:
    """The event's kind; empty for what is no text."""
    kind: object = event.get("kind")
    return kind if isinstance(kind, str) else ""


def body_of(event: Event) -> Mapping[str, Any]:
    """The event's body; empty where it can't be told what it means."""
    body: object = event.get("body")
    return body if known(event) and isinstance(body, dict) else {}
