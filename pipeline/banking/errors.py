"""The reasons for which an account refuses a command."""

from pipeline.model.aggregate import Refused


class AccountNotFound(Refused):
    """There is no such account."""


class AccountExists(Refused):
    """The account was opened already."""


class InsufficientFunds(Refused):
    """Less is available than that: the balance less what is held."""


class BalanceTooLarge(Refused):
    """The balance would reach 2^53."""


class AccountFrozen(Refused):
    """The account is frozen: it can only be unfrozen, and its holds voided."""


class AccountNotFrozen(Refused):
    """Only a frozen account can be unfrozen."""


class AccountClosed(Refused):
    """The account is closed for good: it accepts no command."""


class AccountNotEmpty(Refused):
    """Only an empty account can be closed."""


class HoldNotFound(Refused):
    """The account has no such hold that is open: there was none, or it has ended."""


class HoldTooSmall(Refused):
    """No more can be captured than is held."""


class HoldNotDue(Refused):
    """A hold does not expire before its time."""


class HoldTooLong(Refused):
    """A hold ends at a time to come, and not too far away."""


class TooManyHolds(Refused):
    """The account has as many open holds as one may have."""


class TransferNotFound(Refused):
    """The account sent no such transfer with that event."""


class TransferNotReversible(Refused):
    """A reversal can't be reversed: transfer the money again."""
