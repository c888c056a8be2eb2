"""The chain of an account's events: each carries its own hash and the hash of the one before it.

`hash` is the SHA-256 of the canonical form of the event without `hash`; `previous` is the hash of
the event before it, and `NOTHING` in an account's first event. Both are in hexadecimal digits.

The canonical form is the event as JSON, as the stream has it: no spaces, members sorted by name,
UTF-8 without escapes that JSON does not require, `created_at` as RFC 3339 text with six digits of a
second, or none if they are zero. For what the bank writes (text, integers below 2^53 and objects)
that is RFC 8785. So anybody can recompute it from `GET /{id}/events`, without BSON.

An event that an earlier release stored has neither field. Its hash is that of the event as it is
stored, and the first event with both fields begins the chain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from pipeline.model.derived import as_stored
from pipeline.model.events import Event

NOTHING: Final = "0" * 64
"""The hash before an account's first event."""

_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def canonical(event: Mapping[str, Any]) -> bytes:
    """The bytes that an event's hash is made of."""
    content = as_stored(event)
    if "hash" in content:
        content = {name: value for name, value in content.items() if name != "hash"}
    try:
        return orjson.dumps(content, default=_named, option=_CANONICAL)
    except orjson.JSONEncodeError:  # nested too deep: people can write anything into MongoDB
        return repr(content).encode()


def digest(event: Mapping[str, Any]) -> str:
    """The event's hash, recomputed."""
    return sha256(canonical(event)).hexdigest()


def hash_of(event: Mapping[str, Any]) -> str:
    """The hash that the next event must name: the one that is stored, or that of an old event."""
    stored = event.get("hash")
    sound = isinstance(stored, str) and len(stored) == len(NOTHING)
    return str(stored) if sound else digest(event)


def chained(event: Mapping[str, Any]) -> bool:
    """Whether the event is part of a chain."""
    return "hash" in event


def link(event: Event, previous: str) -> None:
    """Make a new event, which must be complete, the next one of its account's chain."""
    event["previous"] = previous
    event["hash"] = digest(event)


@dataclass(slots=True)
class Chain:
    """The chain of one account, followed event by event: the hash of the last one, and whether the
    chain has begun."""

    head: str = NOTHING
    begun: bool = False

    def follow(self, event: Mapping[str, Any]) -> str | None:
        """Go on to the account's next event; returns what is wrong with it, None if nothing is."""
        before, begun = self.head, self.begun
        self.head = digest(event)
        self.begun = begun or chained(event)
        if not chained(event):
            return "it has no hash, but the event before it has one" if begun else None
        if event["hash"] != self.head:
            # The next event was made on the stored hash: one changed event is one fault.
            self.head = hash_of(event)
            return "it is not what it was when it was stored: its hash is another one"
        if event.get("previous") != before:
            return "it does not follow the event before it: one was changed, removed or inserted"
        return None


def _named(value: Any) -> dict[str, str]:
    """A value of a type that no event of ours has, but that people can write into MongoDB."""
    return {f"${type(value).__name__}": str(value)}
