"""Turns the account service's exceptions into problem documents."""

from typing import Final

from api.account_states import NOT_THEN
from api.commands import errors as engine_errors
from api.http.problems import Problem, unavailable
from api.security.customer_view import for_customer
from pipeline.banking.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    BalanceTooLarge,
    HoldNotFound,
    HoldTooLong,
    HoldTooSmall,
    InsufficientFunds,
    TooManyHolds,
    TransferNotFound,
    TransferNotReversible,
)
from pipeline.banking.holds import MOST
from pipeline.commands import (
    AggregateNotFound,
    AggregateUnreadable,
    OfAnotherAggregate,
    SameAggregate,
    VersionMismatch,
)
from pipeline.model.aggregate import DoneBefore, Refused

_REFUSALS: Final[dict[type[Refused], tuple[int, str, str]]] = {
    AccountNotFound: (404, "account-not-found", "There is no account {}."),
    AggregateNotFound: (404, "account-not-found", "There is no account {}."),
    OfAnotherAggregate: (404, "account-not-found", "There is no account {}."),
    **NOT_THEN,
    AccountExists: (409, "account-exists", "There is an account {} already."),
    InsufficientFunds: (422, "insufficient-funds", "Account {} has less than that available."),
    BalanceTooLarge: (422, "balance-too-large", "Account {} can't hold so much: 2^53 is too much."),
    AccountFrozen: (
        409,
        "account-frozen",
        "Account {} is frozen: it can only be unfrozen, and its holds voided.",
    ),
    AccountNotFrozen: (409, "account-not-frozen", "Account {} is not frozen."),
    AccountClosed: (409, "account-closed", "Account {} is closed for good."),
    AccountNotEmpty: (409, "account-not-empty", "Account {} holds money: take it out first."),
    HoldNotFound: (404, "hold-not-found", "Account {} has no such open hold."),
    HoldTooSmall: (422, "hold-too-small", "Account {} holds less than that under this hold."),
    HoldTooLong: (422, "hold-too-long", "A hold ends at a time to come, within 31 days from now."),
    TooManyHolds: (409, "too-many-holds", f"Account {{}} has {MOST} open holds, and may not more."),
    TransferNotFound: (404, "transfer-not-found", "Account {} did not send that transfer then."),
    TransferNotReversible: (409, "transfer-not-reversible", "A reversal can't be reversed."),
    DoneBefore: (409, "transfer-reversed", "The transfer of account {} was reversed before."),
    SameAggregate: (400, "transfer-to-self", "Account {} can't transfer to itself."),
}


def translate(error: Exception) -> Problem | None:
    """The problem for this error; None for an error of ours."""
    match error:
        case VersionMismatch():
            before = "An account that is yet to be opened has no version to match."
            return engine_errors.mismatch(error, "account", before)
        case Refused():
            status, name, detail = _REFUSALS[type(error)]
            return Problem(
                status, name, detail.format(error.aggregate_id), account=error.aggregate_id
            )
        case AggregateUnreadable():
            return _unreadable(error)
    return engine_errors.translate(error, "account")


def _unreadable(error: AggregateUnreadable) -> Problem:
    detail = "Nothing is decided on an account that can't be read here."
    if not for_customer():  # The error quotes the event as it is stored.
        detail = f"{detail} {error}"
    return unavailable("account-unreadable", detail, account=error.aggregate_id)
