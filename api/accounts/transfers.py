"""Transfers: two accounts' commands, decided together and appended in one transaction."""

import logging
from dataclasses import replace

from ulid import ULID

from api.accounts.account import Account
from api.accounts.caches import Locks
from api.accounts.command_context import CommandContext
from api.accounts.commands import Deposit, Withdraw
from api.accounts.errors import Refused, TransferToSelf
from api.accounts.execution import ATTEMPTS, Done, TooManyConflicts, back_off, execute
from api.accounts.states import States
from pipeline.eventstore import EventStore, VersionConflict

log = logging.getLogger(__name__)


class Transfers:
    """Executes transfers on one event store."""

    def __init__(self, store: EventStore, states: States, locks: Locks) -> None:
        """`locks`: every other writer of an account (`CommandBatcher`) has its lock meanwhile,
        too."""
        self._store, self._states, self._locks = store, states, locks

    async def execute(self, source: str, target: str, money: int, context: CommandContext) -> Done:
        """Move money, whole or not at all; returns the payer's result. Raises what `AccountService`
        says, and `KeyTaken`."""
        if source == target:
            raise TransferToSelf(source)
        conflicts, doubtful = 0, False
        async with self._locks.acquire([source, target]):
            while conflicts < ATTEMPTS:
                states, fresh = await self._states.of([source, target], doubtful=doubtful)
                try:
                    return await self._attempt(states[source], states[target], money, context)
                except Refused:
                    if fresh:
                        raise
                except VersionConflict:
                    conflicts += 1
                    await back_off(conflicts)
                doubtful = True
        raise TooManyConflicts

    async def _attempt(
        self, payer: Account, payee: Account, money: int, context: CommandContext
    ) -> Done:
        """Decide and append both legs. Key and condition belong to the withdrawal, by which a
        repeated transfer is answered."""
        begin = self._states.begin_chains
        transfer_id = str(ULID())
        pay = Withdraw(money, {"id": transfer_id, "counterparty": payee.id})
        receive = Deposit(money, {"id": transfer_id, "counterparty": payer.id})
        paid = execute(pay, payer, context, begin=begin)
        caused = replace(
            context, key=None, request="", condition=None, causation_id=paid.event["_id"]
        )
        received = execute(receive, payee, caused, begin=begin)
        await self._store.append(paid.event, received.event)
        log.debug("Stored transfer %s", transfer_id)
        self._states.remember(paid.account)
        self._states.remember(received.account)
        return paid
