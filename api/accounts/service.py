"""The account service: executes each command once for each idempotency key."""

from contextlib import suppress

from api.accounts.account import Account, initial
from pipeline.commands.caches import Locks
from pipeline.commands.command_batcher import CommandBatcher
from pipeline.commands.command_context import CommandContext
from api.accounts.commands import Command, Create
from api.accounts.errors import AccountNotFound
from pipeline.commands.execution import Done
from pipeline.commands.histories import Histories
from pipeline.commands.idempotency import Idempotency
from pipeline.commands.states import States
from pipeline.commands.joint import Transfers
from pipeline.eventstore import EventStore, StoreUnavailable, StoreUnguarded
from pipeline.model.ulids import new_ulid
from pipeline.support.readiness import NotReady


class AccountService:
    """Executes commands on one event store; any number of replicas may share that store.

    Every method may raise `StoreUnavailable`: the outcome of a command is then unknown. Commands
    raise `Refused`, `KeyReused`, `TooManyConflicts`, `StoreRefused` or `StoreUnguarded`: then
    nothing was stored.
    """

    def __init__(
        self, store: EventStore, *, cached: int = 10_000, begin_chains: bool = True
    ) -> None:
        """`cached`: the number of accounts whose states are kept in memory; with 0 each is
        loaded. `begin_chains`: whether chains of hashes begin that have not begun."""
        self._store, self.histories = store, Histories(store, remembered=cached)
        self._states = States(store, self.histories, cached, begin_chains=begin_chains)
        locks = Locks()
        self._batcher = CommandBatcher(store, self._states, locks)
        self._transfers = Transfers(store, self._states, locks)
        self._idempotency = Idempotency(store, self._states)
        self._opened = False

    async def open(self) -> None:
        """Create the store's indexes. No command is executed before this has succeeded."""
        # The leading forwarder replaces an index of an earlier version: one process, not each.
        await self._store.setup(replace=False)
        self._opened = True

    async def watch(self) -> None:
        """Look at the store's guards, and build what can't be trusted. To be called often.

        Raises `StoreUnguarded` while that is not possible.
        """
        if self._opened:
            with suppress(StoreUnguarded):
                await self._store.guards.look()
                return
        await self.open()

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless MongoDB answers and has been looked at."""
        if not self._opened and not self._store.guards.faults:
            raise StoreUnavailable("the guards of the event store have not been looked at yet")
        await self._store.ping()

    async def guarded(self) -> None:
        """Raise `NotReady` if a guard of the store can't be trusted. Without an answer, `ping`
        tells."""
        try:
            if self._opened:
                with suppress(StoreUnavailable):
                    await self._store.guards.look()
            self._store.guards.check()
        except StoreUnguarded as faults:
            raise NotReady(f"no command is taken: {faults}") from faults

    async def create(self, owner: str, money: int, context: CommandContext) -> Done:
        """Open an account with a new id and `money` minor units in it."""
        self._require_guarded()
        account_id = new_ulid()
        # A new id has no history: so nothing is loaded for it.
        self._states.remember(initial(account_id))
        return await self.execute(account_id, Create(owner, money), context)

    async def execute(self, account_id: str, command: Command, context: CommandContext) -> Done:
        """Execute a command to one account."""
        self._require_guarded()
        return await self._idempotency.execute(
            context, lambda: self._batcher.execute(account_id, command, context)
        )

    async def transfer(
        self,
        source: str,
        target: str,
        money: int,
        context: CommandContext,
        *,
        hides_payee: bool = False,
    ) -> Done:
        """Move money from one account to another, whole or not at all; as `Transfers.execute`."""
        self._require_guarded()
        return await self._idempotency.execute(
            context,
            lambda: self._transfers.execute(
                source, target, money, context, hides_payee=hides_payee
            ),
        )

    async def get(self, account_id: str) -> Account:
        """The account as the event store has it now, or `AccountNotFound`."""
        account = await self._states.present(account_id)
        if not account.version:
            raise AccountNotFound(account_id)
        return account

    def _require_guarded(self) -> None:
        self._store.guards.check()
        if not self._opened:
            raise StoreUnavailable("the guards of the event store have not been looked at yet")
