"""The command service: executes each command once for each idempotency key."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic

from pipeline.commands.caches import Locks
from pipeline.commands.command_batcher import CommandBatcher
from pipeline.commands.command_context import CommandContext
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import AggregateNotFound, OfAnotherAggregate
from pipeline.commands.execution import Done
from pipeline.commands.forgetting import Forgotten, forget
from pipeline.commands.histories import Histories
from pipeline.commands.idempotency import Idempotency
from pipeline.commands.joint import JointCommands, Party
from pipeline.commands.personal_keys import KeyStore
from pipeline.commands.states import States
from pipeline.eventstore import StoreUnavailable, StoreUnguarded
from pipeline.model.aggregate import FORGET, Aggregate, C, Joint, S
from pipeline.model.ulids import new_ulid
from pipeline.model.versioned import AggregateUnreadable, Versioned, initial
from pipeline.support.readiness import NotReady


class _Served(Generic[C, S]):
    """One kind of aggregate: its histories, its states and the batcher of its commands."""

    def __init__(
        self,
        aggregate: Aggregate[C, S],
        store: CommandStore,
        locks: Locks,
        cached: int,
        begin_chains: bool,
        keys: KeyStore | None,
    ) -> None:
        own = keys if aggregate.personal else None
        self.histories = Histories(aggregate, store, remembered=cached, keys=own)
        self.states = States(
            aggregate, store, self.histories, cached, begin_chains=begin_chains, keys=keys
        )
        self.batcher = CommandBatcher(aggregate, store, self.states, locks)


class CommandService:
    """Executes commands on one event store; any number of replicas may share that store.

    Every method may raise `StoreUnavailable`: the outcome of a command is then unknown. Commands
    raise `Refused`, `AggregateUnreadable`, `KeyReused`, `TooManyConflicts`, `StoreRefused` or
    `StoreUnguarded`: then nothing was stored.
    """

    def __init__(
        self,
        store: CommandStore,
        aggregates: Iterable[Aggregate[Any, Any]],
        *,
        cached: int = 10_000,
        begin_chains: bool = True,
        encrypt: bool = True,
    ) -> None:
        """`cached`: of how many aggregates of a kind the states are kept in memory; with 0 each is
        loaded. `begin_chains`: whether chains of hashes begin that have not begun. `encrypt`:
        whether personal fields are encrypted."""
        self._store, self._locks = store, Locks()
        keys = store.keys if encrypt else None
        self._served: dict[Aggregate[Any, Any], _Served[Any, Any]] = {
            each: _Served(each, store, self._locks, cached, begin_chains, keys)
            for each in aggregates
        }
        self._kinds = {kind for each in self._served for kind in each.schemas}
        self._joint, self._idempotency = JointCommands(store, self._locks), Idempotency(store)
        self._opened = False

    @property
    def store(self) -> CommandStore:
        """Where the events are."""
        return self._store

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

    async def create(
        self, aggregate: Aggregate[C, S], command: C, context: CommandContext
    ) -> Done[S]:
        """Execute the first command to an aggregate, which gets a new id."""
        self._require_guarded()
        aggregate_id = new_ulid()
        # A new id has no history: so nothing is loaded for it.
        self._of(aggregate).states.remember(initial(aggregate, aggregate_id))
        return await self.execute(aggregate, aggregate_id, command, context)

    async def execute(
        self, aggregate: Aggregate[C, S], aggregate_id: str, command: C, context: CommandContext
    ) -> Done[S]:
        """Execute a command to one aggregate."""
        self._require_guarded()
        served: _Served[C, S] = self._served[aggregate]
        return await self._once(
            context,
            served.states,
            lambda: served.batcher.execute(aggregate_id, command, context),
        )

    async def execute_together(
        self,
        joint: Joint[C],
        ids: Sequence[str],
        command: C,
        context: CommandContext,
        *,
        blind: Collection[str] = (),
    ) -> Done[Any]:
        """Execute a command over several aggregates, whole or not at all; returns the result of the
        first, to which key and condition belong.

        `blind`: those of which the client must not learn why they refuse. They are read in the same
        way whatever they are, and that one can't be read is told only when its decisions are due;
        until then `decide` sees its initial state.
        """
        self._require_guarded()
        served = [self._of(each) for each in joint.aggregates]
        parties = [
            Party(aggregate, aggregate_id, each.states, aggregate_id in blind)
            for aggregate, aggregate_id, each in zip(joint.aggregates, ids, served, strict=True)
        ]
        return await self._once(
            context,
            served[0].states,
            lambda: self._joint.execute(joint, parties, command, context),
        )

    async def get(self, aggregate: Aggregate[Any, S], aggregate_id: str) -> Versioned[S]:
        """The aggregate as the event store has it now, or `AggregateNotFound`."""
        try:
            found = await self._of(aggregate).states.present(aggregate_id)
            if found.version:
                return found
        except AggregateUnreadable as error:
            if error.begins not in self._kinds:
                raise
        raise AggregateNotFound(aggregate_id=aggregate_id)

    async def forget(
        self, aggregate: Aggregate[Any, Any], aggregate_id: str, context: CommandContext
    ) -> Forgotten:
        """Have what the aggregate's events say of somebody forgotten; see `forgetting.py`."""
        self._require_guarded()
        return await forget(
            self._store,
            aggregate,
            aggregate_id,
            lambda: self.execute(aggregate, aggregate_id, FORGET, context),
        )

    def histories(self, aggregate: Aggregate[Any, S]) -> Histories[S]:
        """The past of such aggregates."""
        return self._of(aggregate).histories

    async def _once(
        self, context: CommandContext, states: States[S], execute: Callable[[], Awaitable[Done[S]]]
    ) -> Done[S]:
        """Execute a command once for its key; raises `OfAnotherAggregate` for the id of another
        aggregate that is served here."""
        try:
            return await self._idempotency.execute(context, states, execute)
        except AggregateUnreadable as error:
            if error.begins not in self._kinds:
                raise
            raise OfAnotherAggregate(aggregate_id=error.aggregate_id) from error

    def _of(self, aggregate: Aggregate[C, S]) -> _Served[C, S]:
        return self._served[aggregate]

    def _require_guarded(self) -> None:
        self._store.guards.check()
        if not self._opened:
            raise StoreUnavailable("the guards of the event store have not been looked at yet")
