"""Idempotency keys: commands with the same key are one command, on every replica and for ever.

The key is stored in the command's event, under a unique index, so key and effect are stored
together or not at all. A repeated command is answered from that event. A command that was refused
stores nothing, and its key stays free.
"""

from collections.abc import Awaitable, Callable

from pipeline.commands.caches import Locks
from pipeline.commands.command_context import CommandContext
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import KeyReused, TooManyConflicts
from pipeline.commands.execution import Done
from pipeline.commands.states import States
from pipeline.eventstore import KeyTaken, StoreRefused, StoreUnavailable
from pipeline.model.aggregate import Refused, S
from pipeline.model.versioned import AggregateUnreadable


class Idempotency:
    """Executes commands at most once for each key."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store
        self._under_way = Locks()

    async def execute(
        self,
        context: CommandContext,
        states: States[S],
        command: Callable[[], Awaitable[Done[S]]],
    ) -> Done[S]:
        """Execute the command, or return its first result. Raises what it raises, and `KeyReused`.

        `states`: those of the aggregate whose event has the key. The first execution is read only
        if the key is in use in this process, if the store refuses it, or if the command is refused
        or has nothing to do: perhaps because of its own first execution.
        """
        if (key := context.key) is None:
            return await command()
        await self._require_new(context)
        repeated = key in self._under_way
        async with self._under_way.acquire([key]):
            if repeated and (done := await self._before(key, context.request, states)):
                return done
            try:
                done = await command()
            except (
                KeyTaken,
                Refused,
                AggregateUnreadable,
                StoreRefused,
                TooManyConflicts,
            ) as error:
                if done := await self._before(key, context.request, states):
                    return done
                if isinstance(error, KeyTaken):
                    raise StoreUnavailable(f"{error}, but its event can't be read yet") from error
                raise
            if done.events:
                return done
            return await self._before(key, context.request, states) or done

    async def _require_new(self, context: CommandContext) -> None:
        """Raise `KeyReused` if the same may have been executed under the former key. That may be a
        customer's: its answer is not repeated."""
        if (former := context.former_key) is None:
            return
        event = (await self._store.under_keys([former])).get(former)
        if event is not None and event.get("request") == context.request:
            raise KeyReused(former)

    async def _before(self, key: str, request: str, states: States[S]) -> Done[S] | None:
        """The first execution of the command with this key, if there is one."""
        event = (await self._store.under_keys([key])).get(key)
        if event is None:
            return None
        if event.get("request") != request:
            raise KeyReused(key)
        after = await states.at(event["account_id"], event["version"])
        return Done([event], after, replayed=True)
