"""An account as an answer."""

from typing import Any

from aiohttp import web

from api.accounts.account import Account
from api.replies import reply


def answer(
    account: Account, *, status: int = 200, headers: dict[str, str] | None = None, **more: Any
) -> web.Response:
    """The account, and `more` members beside its own; its version is the entity tag."""
    document = {
        "id": account.id,
        "owner": account.owner,
        "balance": account.balance,
        "version": account.version,
        "status": account.status,
        **more,
    }
    etag = {"ETag": f'"{account.version}"'}
    return reply(document, status=status, headers=etag | (headers or {}))
