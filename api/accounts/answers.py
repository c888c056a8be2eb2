"""An account as an HTTP response."""

from typing import Any, Final, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from api.account_states import ShownAccount, shown
from api.http.replies import reply
from api.http.shapes import readable
from pipeline.banking.account import Account
from pipeline.banking.events import Transfer
from pipeline.commands import Versioned
from pipeline.model.events import Event


class HoldEvent(TypedDict):
    """What a command did with a hold: `money` was held or captured, what is `released` is available
    again."""

    id: str
    money: NotRequired[int]
    expires_at: NotRequired[str]
    released: NotRequired[int]


EXECUTED: Final = readable(
    ShownAccount,
    "Executed",
    transfer=NotRequired[readable(Transfer)],
    hold=NotRequired[HoldEvent],
)
"""The account as a command left it; of a transfer the one that paid, of a reversal the one that had
paid."""


def answer(
    account: Versioned[Account],
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """The account with `more` members; its version is the entity tag."""
    document = {**shown(account), **more}
    etag = {"ETag": f'"{account.version}"'}
    return reply(document, status=status, headers=etag | (headers or {}))


def done_by(event: Event) -> dict[str, Any]:
    """What an answer says of a command's event beside the account."""
    body = event["body"]
    more = {"transfer": body["transfer"]} if body.get("transfer") else {}
    if (hold := body.get("hold")) is None:
        return more
    shown = ("money", "expires_at", "released")
    return {**more, "hold": {"id": hold, **{name: body[name] for name in shown if name in body}}}
