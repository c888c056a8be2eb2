"""The descriptions that all commands share."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from api.accounts.answers import EXECUTED
from api.commands.errors import COMMAND_PROBLEMS
from api.commands.outcomes import REPLAYED_HEADER
from api.http.headers import ETAG, IDEMPOTENCY_KEY, IF_MATCH
from api.http.inputs import Input
from api.http.operations import Header, json, operation

H = TypeVar("H", bound=Callable[..., Any])

UNREADABLE: Final = ("account-unreadable", "store-unavailable")
"""The problems of every read of an account."""

EXISTING: Final = ("account-not-found", "account-closed")
OPEN: Final = (*EXISTING, "account-frozen")
"""The problems of commands that require an existing account, or an open one."""


def commands(
    body: type[Input], *problems: str, status: int = 200, headers: tuple[Header, ...] = ()
) -> Callable[[H], H]:
    """Describes the handler of a command, which may be refused with these problems."""
    return operation(
        json(EXECUTED, ETAG, REPLAYED_HEADER, *headers, status=status),
        *problems,
        *COMMAND_PROBLEMS,
        *UNREADABLE,
        body=body,
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
    )
