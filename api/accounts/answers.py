"""An account as an HTTP response."""

from typing import Any, Final, Literal, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from api.http.replies import reply
from api.http.shapes import readable
from pipeline.banking.account import Account
from pipeline.banking.events import Transfer
from pipeline.commands import Versioned


class ShownAccount(TypedDict):
    """An account: `balance` in minor units; `version` counts its events."""

    id: str
    owner: str
    balance: int
    version: int
    status: Literal["open", "frozen", "closed"]


EXECUTED: Final = readable(ShownAccount, "Executed", transfer=NotRequired[readable(Transfer)])
"""The account as a command left it; of a transfer the one that paid."""


def answer(
    account: Versioned[Account],
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """The account with `more` members; its version is the entity tag."""
    document = {
        "id": account.id,
        "owner": account.state.owner,
        "balance": account.state.balance,
        "version": account.version,
        "status": account.state.status,
        **more,
    }
    etag = {"ETag": f'"{account.version}"'}
    return reply(document, status=status, headers=etag | (headers or {}))
