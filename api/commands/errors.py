"""Turns the write engine's errors into problem documents."""

from typing import Final

from api.http.problems import Problem, unavailable
from pipeline.commands import (
    KeyReused,
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    TooManyConflicts,
    VersionMismatch,
)

COMMAND_PROBLEMS: Final = (
    "invalid-idempotency-key",
    "idempotency-key-reused",
    "invalid-if-match",
    "version-mismatch",
    "too-many-conflicts",
    "store-refused",
    "store-unguarded",
)
"""What every command may be answered with, beside what every read may."""


def translate(error: Exception, what: str) -> Problem | None:
    """The problem for this error; None for any other. `what`: what commands are to."""
    match error:
        case KeyReused():
            return Problem(
                422,
                "idempotency-key-reused",
                "Something else was asked with this idempotency key before: take a new one.",
            )
        case TooManyConflicts():
            return Problem(
                409,
                "too-many-conflicts",
                f"Others changed the {what} each time. Nothing was stored: send it again.",
                headers={"Retry-After": "1"},
            )
        case StoreRefused():
            detail = f"The event store refuses the command: {error}. Nothing was stored."
            return Problem(503, "store-refused", detail)
        case StoreUnguarded(faults=faults):
            return unavailable(
                "store-unguarded",
                f"The event store can't be trusted now ({', '.join(faults)}). Nothing was stored.",
            )
        case StoreUnavailable():
            return unavailable(
                "store-unavailable",
                "The event store does not answer. A command may have been stored.",
            )
    return None


def mismatch(error: VersionMismatch, what: str, before: str) -> Problem:
    """The problem of a condition that is not met. `before`: what to say before the first event."""
    if not error.version:
        return Problem(412, "version-mismatch", before)
    return Problem(
        412,
        "version-mismatch",
        f"{what.capitalize()} {error.aggregate_id} has version {error.version}.",
        headers={"ETag": f'"{error.version}"'},
        **{what: error.aggregate_id},
        version=error.version,
    )
