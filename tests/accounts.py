"""Accounts folded from their events, for tests."""

from collections.abc import Iterable
from typing import Any

from api.accounts.service import AccountService
from pipeline.banking.account import ACCOUNT, Account
from pipeline.banking.application import BANK
from pipeline.commands import CommandService, CommandStore, Versioned
from pipeline.model import versioned
from pipeline.model.events import Event


def account_service(store: CommandStore, **options: Any) -> AccountService:
    """The account service on a store; `options` of `CommandService`."""
    return AccountService(CommandService(store, BANK.aggregates, **options))


def fold(account_id: str, events: Iterable[Event]) -> Versioned[Account]:
    """The account after all these events."""
    return versioned.fold(ACCOUNT, account_id, events)


def shown(account: Versioned[Account]) -> dict[str, Any]:
    """The account as the service answers it."""
    state = account.state
    return {
        "id": account.id,
        "owner": state.owner,
        "balance": state.balance,
        "available": state.balance - sum(each["money"] for each in state.holds.values()),
        "version": account.version,
        "status": state.status,
        "holds": [{"id": name, **each} for name, each in state.holds.items()],
    }
