"""What an event says happened, if it is in a form that is known; nothing else is believed."""

from collections.abc import Mapping
from typing import Any

from pipeline.events import Event
from pipeline.upcasters import newest


def known(event: Event) -> bool:
    """Whether the event has the newest schema of its kind, as the store hands all out it can."""
    return event.get("schema", 1) == newest(event["kind"])


def body_of(event: Event) -> Mapping[str, Any]:
    """The event's body; empty where it can't be told what it means."""
    body = event["body"]
    return body if known(event) and isinstance(body, dict) else {}
