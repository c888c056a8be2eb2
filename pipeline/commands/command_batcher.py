"""Executes the commands of one aggregate in batches: while one append runs, the next batch gathers.

Each command is decided on the state that the one before it leaves, and all their events are
appended together. If an event is not stored, the commands after it are decided again, on the state
loaded from the store.

An append may be cut between any two events of a batch. So a command of several events is a batch of
its own, and is stored in a transaction.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from pipeline.commands.caches import Locks
from pipeline.commands.command_context import CommandContext
from pipeline.commands.command_queue import CommandQueue, WaitingCommand
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import TooManyConflicts
from pipeline.commands.execution import ATTEMPTS, Done, back_off, execute
from pipeline.commands.fairness import FairnessById
from pipeline.commands.states import States
from pipeline.eventstore import (
    AppendResult,
    KeyTaken,
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    VersionConflict,
)
from pipeline.model.aggregate import Aggregate, C, S
from pipeline.model.events import Event
from pipeline.model.versioned import Versioned
from pipeline.support.correlation import about, detached

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Decided(Generic[C, S]):
    """The result of a command and its events, provided that the `before` events before it in its
    batch are stored."""

    waiting: WaitingCommand[C, S]
    result: Done[S] | Exception
    events: Sequence[Event]
    before: int


class CommandBatcher(Generic[C, S]):
    """Executes commands to single aggregates of one kind on one event store."""

    def __init__(
        self, aggregate: Aggregate[C, S], store: CommandStore, states: States[S], locks: Locks
    ) -> None:
        """`locks`: every other writer of an aggregate (`JointCommands`) has its lock meanwhile,
        too."""
        self._aggregate, self._store, self._states = aggregate, store, states
        self._locks = locks
        self._queues: dict[str, CommandQueue[C, S]] = {}
        self._fairness = FairnessById()

    async def execute(self, aggregate_id: str, command: C, context: CommandContext) -> Done[S]:
        """Execute a command, in one batch with others that wait for the aggregate.

        Raises what `CommandService` says, and `KeyTaken`.
        """
        outcome: asyncio.Future[Done[S]] = asyncio.get_running_loop().create_future()
        waiting = WaitingCommand(command, context, outcome)
        queue = self._queues.get(aggregate_id)
        if queue is None:
            queue = CommandQueue(aggregate_id, self._fairness[aggregate_id])
            self._queues[aggregate_id] = queue
            # A task of its own: cancelling one caller must not cancel the others' commands.
            queue.task = detached(self._serve(queue))
        queue.waiting.append(waiting)
        return await waiting.outcome

    async def _serve(self, queue: CommandQueue[C, S]) -> None:
        """Execute batches until no command waits. The lock is released between two batches."""
        while queue.waiting:
            if aside := queue.fairness.pause():
                queue.doubtful = True
                await asyncio.sleep(aside)
            async with self._locks.acquire([queue.aggregate_id]):
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
        del self._queues[queue.aggregate_id]

    async def _execute_batch(
        self, queue: CommandQueue[C, S], batch: list[WaitingCommand[C, S]]
    ) -> list[WaitingCommand[C, S]]:
        """Decide and append a batch; returns the commands that must be decided again."""
        epoch = self._store.guards.epoch  # before the state is read: it may be lost meanwhile
        began, remembered = time.monotonic(), self._states.remembered(queue.aggregate_id)
        state, fresh = remembered, False
        if state is None or queue.doubtful:
            state, fresh = await self._states.present(queue.aggregate_id), True
        try:
            decided = await self._decide(batch, state)
        except VersionConflict:  # its subject was forgotten meanwhile
            return [*_conflicted(batch)]
        if len(decided) < len(batch):
            queue.postpone(batch[len(decided) :])
        events = [event for each in decided for event in each.events]
        several = decided and len(decided[-1].events) > 1
        append = self._append_whole if several else self._store.append_row
        stored = await append(events, epoch)
        if stored.number:
            self._note_stored(decided, events[: stored.number])
        if isinstance(stored.error, VersionConflict):
            queue.fairness.conflicted()
        else:
            queue.fairness.stored(began, others=remembered not in (None, state))
        again = list(_settle(decided, stored, fresh))
        return (
            await self._without_taken_keys(again) if isinstance(stored.error, KeyTaken) else again
        )

    async def _decide(
        self, batch: Iterable[WaitingCommand[C, S]], state: Versioned[S]
    ) -> list[_Decided[C, S]]:
        """Up to a command of several events, or that one alone if it is the first. Raises what
        `Keys` raise."""
        aggregate, begin, before = self._aggregate, self._states.begin_chains, 0
        keys, decided = self._states.new_keys(), []
        for waiting in batch:
            try:
                command, context = waiting.command, waiting.context
                done = await execute(aggregate, command, state, context, begin=begin, keys=keys)
            except (StoreUnavailable, VersionConflict):  # of its key: that is no refusal
                raise
            except Exception as refusal:
                decided.append(_Decided(waiting, refusal, (), before))
                continue
            number = len(done.events)
            if number > 1 and before:
                break
            decided.append(_Decided(waiting, done, done.events, before))
            if number > 1:
                break
            state, before = done.after, before + number
        return decided

    async def _append_whole(self, events: Sequence[Event], epoch: int) -> AppendResult:
        """Append the events of one command."""
        try:
            await self._store.append(*events, epoch=epoch)
        except Exception as error:
            return AppendResult(0, error)
        return AppendResult(len(events))

    def _note_stored(self, decided: Sequence[_Decided[C, S]], events: Sequence[Event]) -> None:
        """Remember the state after these events."""
        for each in reversed(decided):
            if each.events and each.before < len(events) and isinstance(each.result, Done):
                self._states.remember(each.result.after)
                break
        if log.isEnabledFor(logging.DEBUG):
            name, aggregate_id = self._aggregate.name, events[0]["account_id"]
            what = "Stored %d events of %s %s"
            log.debug(what, len(events), name, aggregate_id, extra=about(events))

    async def _without_taken_keys(
        self, batch: list[WaitingCommand[C, S]]
    ) -> list[WaitingCommand[C, S]]:
        """Settle the commands whose key is taken; return the others.

        Repeated commands come in crowds, and each would cut the batch at its place.
        """
        keys = [waiting.context.key for waiting in batch if waiting.context.key is not None]
        taken = await self._store.under_keys(keys)
        for waiting in batch:
            if waiting.context.key in taken:
                waiting.settle(KeyTaken(waiting.context.key))
        return [waiting for waiting in batch if not waiting.outcome.done()]


def _settle(
    decided: Iterable[_Decided[C, S]], stored: AppendResult, fresh: bool
) -> Iterator[WaitingCommand[C, S]]:
    """Settle the commands whose outcome is known; yields the others."""
    conflict = isinstance(stored.error, VersionConflict)
    for each in decided:
        outcome = _outcome(each, stored, fresh)
        if conflict:
            each.waiting.conflicts += 1
        if outcome is not None:
            each.waiting.settle(outcome)
        else:
            yield from _again(each.waiting)


def _conflicted(batch: Iterable[WaitingCommand[C, S]]) -> Iterator[WaitingCommand[C, S]]:
    """Those that are decided again after a conflict of all of them."""
    for waiting in batch:
        waiting.conflicts += 1
        yield from _again(waiting)


def _again(waiting: WaitingCommand[C, S]) -> Iterator[WaitingCommand[C, S]]:
    """The command, to be decided again; after too many conflicts it is settled instead."""
    if waiting.conflicts == ATTEMPTS:
        waiting.settle(TooManyConflicts())
    else:
        yield waiting


def _outcome(each: _Decided[C, S], stored: AppendResult, fresh: bool) -> Done[S] | Exception | None:
    """The outcome of a command; None if it was decided on a state that is old or was never
    stored."""
    if each.events:
        if each.before < stored.number:
            return each.result
        if each.before == stored.number and not isinstance(stored.error, VersionConflict):
            return stored.error
    elif each.before <= stored.number and (stored.number or fresh):
        # It was refused, or had nothing to do, on a state that was the present one while it waited:
        # that state was loaded meanwhile, or an event of its batch was stored on it.
        return each.result
    return stored.error if _of_all(stored.error) else None


def _of_all(error: Exception | None) -> bool:
    """Whether every command of the batch would get this error."""
    if isinstance(error, StoreRefused):
        return error.whole
    return isinstance(error, StoreUnavailable | StoreUnguarded)
