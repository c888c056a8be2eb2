"""Executes the commands of one account in batches: while one append runs, the next batch gathers.

Each command is decided on the state that the one before it leaves, and all their events are
appended together. If an event is not stored, the commands after it are decided again, on the state
loaded from the store.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from api.accounts.account import Account
from pipeline.commands.caches import Locks
from pipeline.commands.command_context import CommandContext
from pipeline.commands.command_queue import CommandQueue, WaitingCommand
from api.accounts.commands import Command
from pipeline.commands.execution import ATTEMPTS, Done, TooManyConflicts, back_off, execute
from pipeline.commands.fairness import FairnessByAccount
from pipeline.commands.states import States
from pipeline.eventstore import (
    AppendResult,
    EventStore,
    KeyTaken,
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    VersionConflict,
)
from pipeline.support.correlation import about, detached

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Decided:
    """The result of a command, provided that the `before` events before it in its batch are
    stored."""

    waiting: WaitingCommand
    result: Done | Exception
    before: int


class CommandBatcher:
    """Executes commands to single accounts on one event store."""

    def __init__(self, store: EventStore, states: States, locks: Locks) -> None:
        """`locks`: every other writer of an account (`Transfers`) has its lock meanwhile, too."""
        self._store, self._states, self._locks = store, states, locks
        self._queues: dict[str, CommandQueue] = {}
        self._fairness = FairnessByAccount()

    async def execute(self, account_id: str, command: Command, context: CommandContext) -> Done:
        """Execute a command, in one batch with others that wait for the account.

        Raises what `AccountService` says, and `KeyTaken`.
        """
        waiting = WaitingCommand(command, context, asyncio.get_running_loop().create_future())
        queue = self._queues.get(account_id)
        if queue is None:
            queue = self._queues[account_id] = CommandQueue(account_id, self._fairness[account_id])
            # A task of its own: cancelling one caller must not cancel the others' commands.
            queue.task = detached(self._serve(queue))
        queue.waiting.append(waiting)
        return await waiting.outcome

    async def _serve(self, queue: CommandQueue) -> None:
        """Execute batches until no command waits. The lock is released between two batches."""
        while queue.waiting:
            if aside := queue.fairness.pause():
                queue.doubtful = True
                await asyncio.sleep(aside)
            async with self._locks.acquire([queue.account_id]):
                batch = queue.next_batch()
                try:
                    again = await self._execute_batch(queue, batch)
                except Exception as error:
                    again = []
                    for waiting in batch:
                        waiting.settle(error)
            queue.put_back(again)
            if again and (conflicts := max(each.conflicts for each in again)):
                await back_off(conflicts)
        del self._queues[queue.account_id]

    async def _execute_batch(
        self, queue: CommandQueue, batch: list[WaitingCommand]
    ) -> list[WaitingCommand]:
        """Decide and append a batch; returns the commands that must be decided again."""
        epoch = self._store.guards.epoch  # before the state is read: it may be lost meanwhile
        began, remembered = time.monotonic(), self._states.remembered(queue.account_id)
        state, fresh = remembered, False
        if state is None or queue.doubtful:
            state, fresh = await self._states.present(queue.account_id), True
        decided = list(_decide(batch, state, self._states.begin_chains))
        done = [each.result for each in decided if isinstance(each.result, Done)]
        stored = await self._store.append_row([each.event for each in done], epoch)
        if stored.number:
            self._states.remember(done[stored.number - 1].account)
        _log_stored(queue.account_id, done[: stored.number])
        if isinstance(stored.error, VersionConflict):
            queue.fairness.conflicted()
        else:
            queue.fairness.stored(began, others=remembered not in (None, state))
        again = list(_settle(decided, stored, fresh))
        return (
            await self._without_taken_keys(again) if isinstance(stored.error, KeyTaken) else again
        )

    async def _without_taken_keys(self, batch: list[WaitingCommand]) -> list[WaitingCommand]:
        """Settle the commands whose key is taken; return the others.

        Repeated commands come in crowds, and each would cut the batch at its place.
        """
        keys = [waiting.context.key for waiting in batch if waiting.context.key is not None]
        taken = await self._store.under_keys(keys)
        for waiting in batch:
            if waiting.context.key in taken:
                waiting.settle(KeyTaken(waiting.context.key))
        return [waiting for waiting in batch if not waiting.outcome.done()]


def _log_stored(account_id: str, stored: Sequence[Done]) -> None:
    if stored and log.isEnabledFor(logging.DEBUG):
        fields = about(each.event for each in stored)
        log.debug("Stored %d events of account %s", len(stored), account_id, extra=fields)


def _decide(batch: Iterable[WaitingCommand], state: Account, begin: bool) -> Iterator[_Decided]:
    events = 0
    for waiting in batch:
        try:
            result: Done | Exception = execute(waiting.command, state, waiting.context, begin=begin)
        except Exception as refusal:
            result = refusal
        yield _Decided(waiting, result, events)
        if isinstance(result, Done):
            state, events = result.account, events + 1


def _settle(
    decided: Iterable[_Decided], stored: AppendResult, fresh: bool
) -> Iterator[WaitingCommand]:
    """Settle the commands whose outcome is known; yields the others."""
    for each in decided:
        outcome = _outcome(each, stored, fresh)
        each.waiting.conflicts += isinstance(stored.error, VersionConflict)
        if outcome is not None:
            each.waiting.settle(outcome)
        elif each.waiting.conflicts == ATTEMPTS:
            each.waiting.settle(TooManyConflicts())
        else:
            yield each.waiting


def _outcome(each: _Decided, stored: AppendResult, fresh: bool) -> Done | Exception | None:
    """The outcome of a command; None if it was decided on a state that is old or was never
    stored."""
    if isinstance(each.result, Done):
        if each.before < stored.number:
            return each.result
        if each.before == stored.number and not isinstance(stored.error, VersionConflict):
            return stored.error
    elif each.before <= stored.number and (stored.number or fresh):
        # It was refused on a state that was the present one while it waited: that state was loaded
        # meanwhile, or an event of its batch was stored on it.
        return each.result
    return stored.error if _of_all(stored.error) else None


def _of_all(error: Exception | None) -> bool:
    """Whether every command of the batch would get this error."""
    if isinstance(error, StoreRefused):
        return error.whole
    return isinstance(error, StoreUnavailable | StoreUnguarded)
