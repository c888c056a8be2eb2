"""The commands of one account, decided in a batch: while one append is under way the next gather.

Each is decided on the state that the one before it will leave, and all their events go down
together. If one is not stored, what was decided after it is decided again, on fresh state.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from api.accounts.account import Account
from api.accounts.caches import Locks
from api.accounts.command_context import CommandContext
from api.accounts.command_queue import CommandQueue, WaitingCommand
from api.accounts.commands import Command
from api.accounts.execution import ATTEMPTS, Done, TooManyConflicts, execute, stand_back
from api.accounts.fairness import FairnessByAccount
from api.accounts.states import States
from pipeline.eventstore import (
    AppendResult,
    EventStore,
    KeyTaken,
    StoreUnavailable,
    VersionConflict,
)
from pipeline.support.correlation import about, detached

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What becomes of a command, if the `before` events that its batch has before it are stored."""

    waiting: WaitingCommand
    result: Done | Exception
    before: int


class CommandBatcher:
    """Executes commands of single accounts on one event store."""

    def __init__(self, store: EventStore, states: States, locks: Locks) -> None:
        """`locks`: whoever else appends to an account holds its lock meanwhile."""
        self._store, self._states, self._locks = store, states, locks
        self._queues: dict[str, CommandQueue] = {}
        self._fairness = FairnessByAccount()
        self._tasks: set[asyncio.Task[None]] = set()

    async def execute(self, account_id: str, command: Command, context: CommandContext) -> Done:
        """One command, with all others that wait for the account. Raises what `AccountService`
        says, and `KeyTaken`."""
        waiting = WaitingCommand(command, context, asyncio.get_running_loop().create_future())
        queue = self._queues.get(account_id)
        if queue is None:
            queue = self._queues[account_id] = CommandQueue(account_id, self._fairness[account_id])
            # A task of its own: a caller who is cancelled must not take the others along.
            task = detached(self._serve(queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        queue.waiting.append(waiting)
        return await waiting.outcome

    async def _serve(self, queue: CommandQueue) -> None:
        """Batch after batch, until nobody waits; between two others may have the account."""
        while queue.waiting:
            if aside := queue.fairness.pause():
                queue.doubtful = True
                await asyncio.sleep(aside)
            async with self._locks.hold([queue.account_id]):
                batch = queue.next_batch()
                try:
                    again = await self._execute_batch(queue, batch)
                except Exception as error:
                    again = []
                    for waiting in batch:
                        waiting.settle(error)
            queue.put_back(again)
            if conflicts := max((each.conflicts for each in again), default=0):
                await stand_back(conflicts)
        del self._queues[queue.account_id]

    async def _execute_batch(
        self, queue: CommandQueue, batch: list[WaitingCommand]
    ) -> list[WaitingCommand]:
        """Decide and append a batch; returns who must be decided again, on fresh state."""
        began, remembered = time.monotonic(), self._states.remembered(queue.account_id)
        state, fresh = remembered, False
        if state is None or queue.doubtful:
            state, fresh = await self._states.present(queue.account_id), True
        decided = list(_decide(batch, state))
        done = [each.result for each in decided if isinstance(each.result, Done)]
        stored = await self._store.append_row([each.event for each in done])
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
        told = about(each.event for each in stored)
        log.debug("Stored %d events of account %s", len(stored), account_id, extra=told)


def _decide(batch: Iterable[WaitingCommand], state: Account) -> Iterator[_Decided]:
    events = 0
    for waiting in batch:
        try:
            result: Done | Exception = execute(waiting.command, state, waiting.context)
        except Exception as refusal:
            result = refusal
        yield _Decided(waiting, result, events)
        if isinstance(result, Done):
            state, events = result.account, events + 1


def _settle(
    decided: Iterable[_Decided], stored: AppendResult, fresh: bool
) -> Iterator[WaitingCommand]:
    """Tell everybody whose outcome is known now; yields the others."""
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
    """What became of a command; None if it was decided on a state that never was, or is old."""
    if isinstance(each.result, Done):
        if each.before < stored.number:
            return each.result
        if each.before == stored.number and not isinstance(stored.error, VersionConflict):
            return stored.error
    elif each.before <= stored.number and (stored.number or fresh):
        # The state that it was refused on was the present one while it waited: it was loaded
        # meanwhile, or an event before or after it took its place in the history.
        return each.result
    return stored.error if isinstance(stored.error, StoreUnavailable) else None
