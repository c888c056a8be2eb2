"""The reasons for which an account refuses a command."""

from pipeline.model.aggregate import Refused


class AccountNotFound(Refused):
    """There is no such account."""


class AccountExists(Refused):
    """The account was opened already."""


class InsufficientFunds(Refused):
    """The balance would fall below zero."""


class BalanceTooLarge(Refused):
    """The balance would reach 2^53."""


class AccountFrozen(Refused):
    """The account is frozen: it can only be unfrozen."""


class AccountNotFrozen(Refused):
    """Only a frozen account can be unfrozen."""


class AccountClosed(Refused):
    """The account is closed for good: it accepts no command."""


class AccountNotEmpty(Refused):
    """Only an empty account can be closed."""
