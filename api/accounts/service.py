"""The account service: the bank's commands, executed by the write engine."""

from collections.abc import Coroutine
from typing import Any

from pipeline.banking.account import ACCOUNT, TRANSFER, Account
from pipeline.banking.commands import Command, Create, MoveMoney
from pipeline.commands import CommandContext, CommandService, Done, Versioned
from pipeline.model.ulids import new_ulid


class AccountService:
    """Executes commands to accounts. Every method may raise what `CommandService` says."""

    def __init__(self, commands: CommandService) -> None:
        """`commands`: executes those of the bank."""
        self.commands, self.histories = commands, commands.histories(ACCOUNT)

    async def open(self) -> None:
        """As `CommandService.open`, for who does not call `commands.watch`."""
        await self.commands.open()

    def create(
        self, owner: str, money: int, context: CommandContext
    ) -> Coroutine[Any, Any, Done[Account]]:
        """Open an account with a new id and `money` minor units in it."""
        return self.commands.create(ACCOUNT, Create(owner, money), context)

    def execute(
        self, account_id: str, command: Command, context: CommandContext
    ) -> Coroutine[Any, Any, Done[Account]]:
        """Execute a command to one account."""
        return self.commands.execute(ACCOUNT, account_id, command, context)

    def transfer(
        self,
        source: str,
        target: str,
        money: int,
        context: CommandContext,
        *,
        hides_payee: bool = False,
    ) -> Coroutine[Any, Any, Done[Account]]:
        """Move money from one account to another, whole or not at all; the payer's result.

        `hides_payee`: the client must not learn why a payee is refused.
        """
        command = MoveMoney(new_ulid(), source, target, money)
        blind = (target,) if hides_payee else ()
        return self.commands.execute_together(
            TRANSFER, (source, target), command, context, blind=blind
        )

    def get(self, account_id: str) -> Coroutine[Any, Any, Versioned[Account]]:
        """The account as the event store has it now, or `AggregateNotFound`."""
        return self.commands.get(ACCOUNT, account_id)
