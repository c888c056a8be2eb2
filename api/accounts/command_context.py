"""The context of a command: correlation id, idempotency key, condition and trace of its request."""

from dataclasses import dataclass

from api.http.headers import Condition


@dataclass(frozen=True, slots=True)
class CommandContext:
    """`key`: commands with the same key are one command. `request`: the fingerprint of the request,
    by which another request under the same key is refused. `former_key`: what an earlier release
    would have stored for the key, if that is another. `traceparent`: that of the request's
    span, if there is one."""

    correlation_id: str
    key: str | None = None
    request: str = ""
    condition: Condition | None = None
    traceparent: str | None = None
    former_key: str | None = None
