"""The account service: the bank's commands, executed by the write engine."""

from collections.abc import Coroutine
from typing import Any

from pipeline.banking.account import ACCOUNT, REVERSAL, TRANSFER, Account
from pipeline.banking.commands import Command, Create, MoveMoney, ReverseTransfer
from pipeline.banking.errors import TransferNotFound, TransferNotReversible
from pipeline.banking.events import WITHDRAWN
from pipeline.commands import CommandContext, CommandService, Done, Versioned
from pipeline.model.aggregate import DoneBefore, Refused
from pipeline.model.events import Event
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

    async def reverse(
        self, payer: str, version: int, transfer: str, context: CommandContext
    ) -> Done[Account]:
        """Move a transfer's money back, whole; the result of the account that had paid with its
        event of that version."""
        leg = await self._leg(payer, version, transfer)
        payee, money = leg["body"]["transfer"]["counterparty"], leg["body"]["money"]
        command = ReverseTransfer(new_ulid(), transfer, payer, payee, money)
        try:
            return await self.commands.execute_together(REVERSAL, (payer, payee), command, context)
        except Refused as refusal:
            # The money of a reversal may be why there is not enough for another.
            if await self.commands.store.under_keys([str(REVERSAL.only_key(command))]):
                raise DoneBefore(aggregate_id=payer) from refusal
            raise

    async def _leg(self, payer: str, version: int, transfer: str) -> Event:
        """The payer's event of a transfer that can be reversed."""
        found = await self.commands.store.page(payer, after=version - 1, limit=1)
        leg = found[0] if found and found[0]["version"] == version else None
        named = leg["body"].get("transfer") if leg and leg["kind"] == WITHDRAWN else None
        if leg is None or not named or named["id"] != transfer:
            raise TransferNotFound(aggregate_id=payer)
        if "reverses" in named:
            raise TransferNotReversible(aggregate_id=payer)
        return leg

    def get(self, account_id: str) -> Coroutine[Any, Any, Versioned[Account]]:
        """The account as the event store has it now, or `AggregateNotFound`."""
        return self.commands.get(ACCOUNT, account_id)
