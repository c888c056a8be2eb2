"""Idempotency keys: commands with the same key are one command, on every replica and for ever.

The key is stored in the command's event, where a unique index guards it, so nothing can fall out
of step. The answer to a repetition is made from that event again. A command that was refused left
nothing, its key neither.
"""

from collections.abc import Awaitable, Callable

from api.accounts.caches import Locks
from api.accounts.command_context import CommandContext
from api.accounts.errors import Refused
from api.accounts.execution import Done, TooManyConflicts
from api.accounts.states import States
from pipeline.eventstore import EventStore, KeyTaken, StoreUnavailable


class KeyReused(Exception):
    """Something else was asked under this key before."""


class Idempotency:
    """Executes commands at most once for each key."""

    def __init__(self, store: EventStore, states: States) -> None:
        self._store, self._states = store, states
        self._under_way = Locks()

    async def execute(
        self, context: CommandContext, command: Callable[[], Awaitable[Done]]
    ) -> Done:
        """The command, or what it did before. Raises what it raises, and `KeyReused`.

        Nothing is read unless the key is under way here, the store refuses it, or the command is
        refused: which it may be because of its own first execution.
        """
        if (key := context.key) is None:
            return await command()
        repeated = key in self._under_way
        async with self._under_way.hold([key]):
            if repeated and (done := await self._before(key, context.request)):
                return done
            try:
                return await command()
            except (KeyTaken, Refused, TooManyConflicts) as error:
                if done := await self._before(key, context.request):
                    return done
                if isinstance(error, KeyTaken):
                    raise StoreUnavailable(f"{error}, but not for good yet") from error
                raise

    async def _before(self, key: str, request: str) -> Done | None:
        """What the command with this key did before, if it was executed."""
        event = (await self._store.under_keys([key])).get(key)
        if event is None:
            return None
        if event.get("request") != request:
            raise KeyReused(key)
        account = await self._states.at(event["account_id"], event["version"])
        return Done(event, account, replayed=True)
