"""The account service: the bank's commands, executed by the write engine."""

from collections.abc import Coroutine
from typing import Any

from pipeline.banking.account import ACCOUNT, REVERSAL, TRANSFER, Account
from pipeline.banking.commands import Command, Create, MoveMoney, ReverseTransfer
from pipeline.banking.errors import TransferNotFound, TransferNotReversible
from pipeline.commands import CommandContext, CommandService, Done, Versioned
from pipeline.model.aggregate import DoneBefore, Refused
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
        payee, money = await self._sent(payer, version, transfer)
        command = ReverseTransfer(new_ulid(), transfer, payer, payee, money)
        try:
            return await self.commands.execute_together(REVERSAL, (payer, payee), command, context)
        except Refused as refusal:
            # The money of a reversal may be why there is not enough for another.
            if await self.commands.store.under_keys([str(REVERSAL.only_key(command))]):
                raise DoneBefore(aggregate_id=payer) from refusal
            raise

    async def _sent(self, payer: str, version: int, transfer: str) -> tuple[str, int]:
        """To whom the payer sent how much with its event of that version, by that transfer."""
        found = await self.commands.store.page(payer, after=version - 1, limit=1)
        for event in found:  # as it is stored: people can write anything into the collection
            match event:
                case {
                    "version": there,
                    "kind": "MoneyWithdrawn",
                    "body": {
                        "money": int(money),
                        "transfer": {"id": number, "counterparty": str(payee), **more},
                    },
                } if (there, number) == (version, transfer):
                    if "reverses" in more:
                        raise TransferNotReversible(aggregate_id=payer)
                    return payee, money
        raise TransferNotFound(aggregate_id=payer)

    def get(self, account_id: str) -> Coroutine[Any, Any, Versioned[Account]]:
        """The account as the event store has it now, or `AggregateNotFound`."""
        return self.commands.get(ACCOUNT, account_id)
