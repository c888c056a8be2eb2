"""The context of a command: what its request says beside the command itself."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.model.events import Actor


class Condition(Protocol):
    """What the client requires of the aggregate's version."""

    def admits(self, version: int) -> bool:
        """Whether this version meets the condition; 0 if there is no such aggregate yet."""


@dataclass(frozen=True, slots=True)
class ExactVersion:
    """This version and no other: 0 for an aggregate that must not exist yet."""

    version: int

    def admits(self, version: int) -> bool:
        return version == self.version


# Not frozen: each command makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class CommandContext:
    """Nothing changes one.

    `key`: commands with the same key are one command. `request`: the fingerprint of the request, by
    which another request under the same key is refused. `traceparent`: that of the request's
    span, if there is one. `actor`: who sent it, None if the service asks nobody for a key.
    `reference`, `description`: the client's own words, empty for none. `causation_id`: the event
    that caused this one. `former_key`: what an earlier release would have stored for the key, if
    that is another."""

    correlation_id: str
    key: str | None = None
    request: str = ""
    condition: Condition | None = None
    traceparent: str | None = None
    actor: Actor | None = None
    reference: str = ""
    description: str = ""
    causation_id: str | None = None
    former_key: str | None = None
