"""The reasons for which an account refuses a command."""


class Refused(Exception):
    """A command that breaks a rule of the account. Nothing was stored."""

    def __init__(self, account_id: str) -> None:
        super().__init__(account_id)
        self.account_id = account_id


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


class TransferToSelf(Refused):
    """Both sides of a transfer are the same account."""


class AccountUnreadable(ValueError):
    """An event of the account can't be applied here, so no command to the account can be
    decided."""

    def __init__(self, account_id: str, reason: str) -> None:
        super().__init__(f"account {account_id}: {reason}")
        self.account_id, self.reason = account_id, reason
