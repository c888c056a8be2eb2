"""What a client asks of a command beside what it does: only once, only at a known version."""

from dataclasses import dataclass

from api.http.headers import Condition


@dataclass(frozen=True, slots=True)
class CommandContext:
    """`key`: all commands with the same one are one command. `request` is the fingerprint of what
    was asked with it, so that another question under that key is told apart. `traceparent` is that
    of the request's span, if there is one."""

    correlation_id: str
    key: str | None = None
    request: str = ""
    condition: Condition | None = None
    traceparent: str | None = None
