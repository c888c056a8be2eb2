"""Transfers: two accounts' commands, decided together and appended in one transaction."""

import logging
from dataclasses import replace

from api.accounts.account import Account
from pipeline.commands.caches import Locks
from pipeline.commands.command_context import CommandContext
from api.accounts.commands import Deposit, Withdraw
from api.accounts.errors import AccountUnreadable, Refused, TransferToSelf
from pipeline.commands.execution import ATTEMPTS, Done, TooManyConflicts, back_off, execute
from pipeline.commands.states import States
from pipeline.eventstore import EventStore, VersionConflict
from pipeline.model.ulids import new_ulid

log = logging.getLogger(__name__)


class Transfers:
    """Executes transfers on one event store."""

    def __init__(self, store: EventStore, states: States, locks: Locks) -> None:
        """`locks`: every other writer of an account (`CommandBatcher`) has its lock meanwhile,
        too."""
        self._store, self._states, self._locks = store, states, locks

    async def execute(
        self,
        source: str,
        target: str,
        money: int,
        context: CommandContext,
        *,
        hides_payee: bool = False,
    ) -> Done:
        """Move money, whole or not at all; returns the payer's result. Raises what `AccountService`
        says, and `KeyTaken`.

        `hides_payee`: the client must not learn why a payee is refused, so the reads must not
        depend on that either.
        """
        if source == target:
            raise TransferToSelf(source)
        conflicts, doubtful = 0, False
        async with self._locks.acquire([source, target]):
            while conflicts < ATTEMPTS:
                epoch = self._store.guards.epoch  # before the states are read
                parties = self._hiding if hides_payee else self._parties
                payer, payee, fresh = await parties(source, target, doubtful)
                try:
                    return await self._attempt(payer, payee, target, money, context, epoch)
                except Refused as error:
                    if fresh or (hides_payee and error.account_id == target):
                        raise
                except VersionConflict:
                    conflicts += 1
                    await back_off(conflicts)
                doubtful = True
        raise TooManyConflicts

    async def _parties(
        self, source: str, target: str, doubtful: bool
    ) -> tuple[Account, Account, bool]:
        """The payer, the payee, and whether both were loaded just now."""
        states, fresh = await self._states.of([source, target], doubtful=doubtful)
        return states[source], states[target], fresh

    async def _hiding(
        self, source: str, target: str, doubtful: bool
    ) -> tuple[Account, Account | AccountUnreadable, bool]:
        """The same, by reads that don't depend on the payee: no remembered state of it is used, and
        that it is unreadable is only told when the payer may pay."""
        payee: Account | AccountUnreadable
        try:
            payee = await self._states.looked_up(target)
        except AccountUnreadable as error:
            payee = error
        states, fresh = await self._states.of([source], doubtful=doubtful)
        return states[source], payee, fresh

    async def _attempt(
        self,
        payer: Account,
        payee: Account | AccountUnreadable,
        target: str,
        money: int,
        context: CommandContext,
        epoch: int,
    ) -> Done:
        """Decide and append both legs. Key and condition belong to the withdrawal, by which a
        repeated transfer is answered."""
        begin = self._states.begin_chains
        transfer_id = new_ulid()
        pay = Withdraw(money, {"id": transfer_id, "counterparty": target})
        receive = Deposit(money, {"id": transfer_id, "counterparty": payer.id})
        paid = execute(pay, payer, context, begin=begin)
        if isinstance(payee, AccountUnreadable):
            raise payee
        caused = replace(
            context, key=None, request="", condition=None, causation_id=paid.event["_id"]
        )
        received = execute(receive, payee, caused, begin=begin)
        await self._store.append(paid.event, received.event, epoch=epoch)
        log.debug("Stored transfer %s", transfer_id)
        self._states.remember(paid.account)
        self._states.remember(received.account)
        return paid
