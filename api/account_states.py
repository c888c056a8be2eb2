"""An account after some of its events, as both services show it."""

from typing import Literal, cast

from typing_extensions import TypedDict

from pipeline.banking.account import Account
from pipeline.model.versioned import Versioned


class ShownHold(TypedDict):
    """An open hold: `money` in minor units is held until `expires_at`."""

    id: str
    money: int
    expires_at: str


class ShownAccount(TypedDict):
    """An account: `balance` and what of it is `available`, in minor units; `holds` are the open
    ones, the oldest first; `version` counts its events."""

    id: str
    owner: str
    balance: int
    available: int
    version: int
    status: Literal["open", "frozen", "closed"]
    holds: list[ShownHold]


def shown(account: Versioned[Account]) -> ShownAccount:
    """The account as a response has it."""
    state = account.state
    fields = {
        "id": account.id,
        "owner": state.owner,
        "balance": state.balance,
        "available": state.available,
        "version": account.version,
        "status": state.status,
        "holds": [{"id": name, **each} for name, each in state.holds.items()],
    }
    return cast(ShownAccount, fields)
