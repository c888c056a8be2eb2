"""What the account service refuses, as problem documents."""

from typing import Final

from api.accounts.account import (
    AccountExists,
    AccountNotFound,
    BalanceTooLarge,
    InsufficientFunds,
    Refused,
    TransferToSelf,
)
from api.accounts.service import TooManyConflicts
from api.problems import Problem, unavailable
from pipeline.eventstore import StoreUnavailable

_REFUSALS: Final[dict[type[Refused], tuple[int, str, str]]] = {
    AccountNotFound: (404, "account-not-found", "There is no account {}."),
    AccountExists: (409, "account-exists", "There is an account {} already."),
    InsufficientFunds: (422, "insufficient-funds", "Account {} holds less than that."),
    BalanceTooLarge: (422, "balance-too-large", "Account {} can't hold so much: 2^53 is too much."),
    TransferToSelf: (400, "transfer-to-self", "Account {} can't transfer to itself."),
}


def translate(error: Exception) -> Problem | None:
    """The problem that tells a client of this error; None when it is no client's business."""
    match error:
        case Refused():
            status, name, detail = _REFUSALS[type(error)]
            return Problem(status, name, detail.format(error.account_id), account=error.account_id)
        case TooManyConflicts():
            return Problem(
                409,
                "too-many-conflicts",
                "Others changed the account each time. Nothing was stored: send it again.",
                headers={"Retry-After": "1"},
            )
        case StoreUnavailable():
            return unavailable(
                "store-unavailable",
                "The event store does not answer. A command may have been stored.",
            )
    return None
