"""An account after some of its events, as both services show it and are asked for it."""

from datetime import datetime
from typing import Annotated, Final, Literal, cast

from pydantic import AfterValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from api.http.timestamps import Timestamp
from pipeline.banking.account import Account
from pipeline.commands import NotBegunYet, VersionNotFound
from pipeline.model.aggregate import Refused
from pipeline.model.versioned import Versioned

NOT_THEN: Final[dict[type[Refused], tuple[int, str, str]]] = {
    NotBegunYet: (404, "account-not-found", "Account {} was not opened by then."),
    VersionNotFound: (404, "version-not-found", "Account {} has not come to that version."),
}
"""The problems of a past that there is not: status, type, and the detail about an account."""


def _alone(at: datetime, info: ValidationInfo) -> datetime:
    if info.data.get("version") is not None:
        raise PydanticCustomError("both", "Give either a version or a time")
    return at


PastTime = Annotated[Timestamp, AfterValidator(_alone)]
"""`at` in a query that has `version`, before it, in its place."""


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
