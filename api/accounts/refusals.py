"""Turns the account service's exceptions into problem documents."""

from typing import Final

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
    InsufficientFunds,
)
from pipeline.commands import (
    AggregateNotFound,
    AggregateUnreadable,
    NotBegunYet,
    OfAnotherAggregate,
    SameAggregate,
    VersionMismatch,
    VersionNotFound,
)
from pipeline.model.aggregate import Refused

_REFUSALS: Final[dict[type[Refused], tuple[int, str, str]]] = {
    AccountNotFound: (404, "account-not-found", "There is no account {}."),
    AggregateNotFound: (404, "account-not-found", "There is no account {}."),
    OfAnotherAggregate: (404, "account-not-found", "There is no account {}."),
    NotBegunYet: (404, "account-not-found", "Account {} was not opened by then."),
    VersionNotFound: (404, "version-not-found", "Account {} has not come to that version."),
    AccountExists: (409, "account-exists", "There is an account {} already."),
    InsufficientFunds: (422, "insufficient-funds", "Account {} holds less than that."),
    BalanceTooLarge: (422, "balance-too-large", "Account {} can't hold so much: 2^53 is too much."),
    AccountFrozen: (409, "account-frozen", "Account {} is frozen: it can only be unfrozen."),
    AccountNotFrozen: (409, "account-not-frozen", "Account {} is not frozen."),
    AccountClosed: (409, "account-closed", "Account {} is closed for good."),
    AccountNotEmpty: (409, "account-not-empty", "Account {} holds money: take it out first."),
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
