"""Joint commands: several aggregates' events, decided together and appended in one transaction."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.commands.caches import Locks
from pipeline.commands.command_context import CommandContext
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import SameAggregate, TooManyConflicts
from pipeline.commands.execution import ATTEMPTS, Done, back_off, decided, enveloped
from pipeline.commands.states import States
from pipeline.eventstore import KeyTaken, VersionConflict
from pipeline.model.aggregate import Aggregate, Decision, DoneBefore, Joint, Refused
from pipeline.model.versioned import AggregateUnreadable, Versioned
from pipeline.support.correlation import about

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Party:
    """An aggregate of a joint command. `blind`: the client must not learn why it refuses, so the
    reads must not depend on that either."""

    aggregate: Aggregate[Any, Any]
    id: str
    states: States[Any]
    blind: bool


class JointCommands:
    """Executes joint commands on one event store."""

    def __init__(self, store: CommandStore, locks: Locks) -> None:
        """`locks`: every other writer of an aggregate (`CommandBatcher`) has its lock meanwhile,
        too."""
        self._store, self._locks = store, locks

    async def execute(
        self, joint: Joint[Any], parties: Sequence[Party], command: Any, context: CommandContext
    ) -> Done[Any]:
        """Store all events or none; returns the first party's result, to which the context's key
        and condition belong. Raises what `CommandService` says, and `KeyTaken`."""
        ids = [each.id for each in parties]
        if len({*ids}) < len(ids):
            raise SameAggregate(aggregate_id=ids[0])
        blind = {each.id for each in parties if each.blind}
        conflicts, doubtful = 0, False
        async with self._locks.acquire(ids):
            while conflicts < ATTEMPTS:
                epoch = self._store.guards.epoch  # before the states are read
                states, fresh = await _read(parties, doubtful)
                try:
                    done = await _decide(joint, parties, states, command, context)
                    events = [event for each in done for event in each.events]
                    await self._store.append(*events, epoch=epoch)
                except Refused as error:
                    error.aggregate_id = error.aggregate_id or ids[0]
                    if fresh or error.aggregate_id in blind:
                        raise
                except KeyTaken as error:
                    if error.key == joint.only_key(command):
                        raise DoneBefore(aggregate_id=ids[0]) from error
                    raise
                except VersionConflict:
                    conflicts += 1
                    await back_off(conflicts)
                else:
                    _note_stored(joint, parties, done)
                    return done[0]
                doubtful = True
        raise TooManyConflicts


async def _read(
    parties: Sequence[Party], doubtful: bool
) -> tuple[list[Versioned[Any] | AggregateUnreadable], bool]:
    """The states, in order, and whether all that are not read blindly were loaded just now.

    A remembered state may be old. `doubtful`: load all. No remembered state of a blind party is
    used.
    """
    states = {each.id: await _looked_up(each) for each in parties if each.blind}
    others = [each for each in parties if not each.blind]
    for each in () if doubtful else others:
        if (state := each.states.remembered(each.id)) is not None:
            states[each.id] = state
    missing = [each for each in others if each.id not in states]
    if missing:
        loaded = await asyncio.gather(*(each.states.present(each.id) for each in missing))
        states |= {each.id: state for each, state in zip(missing, loaded, strict=True)}
    return [states[each.id] for each in parties], len(missing) == len(others)


async def _looked_up(party: Party) -> Versioned[Any] | AggregateUnreadable:
    """That it is unreadable is only told when its decisions are due."""
    try:
        return await party.states.looked_up(party.id)
    except AggregateUnreadable as error:
        return error


async def _decide(
    joint: Joint[Any],
    parties: Sequence[Party],
    states: Sequence[Versioned[Any] | AggregateUnreadable],
    command: Any,
    context: CommandContext,
) -> list[Done[Any]]:
    """Each party's result, provided that all events are stored. Raises what `Keys` raise."""
    seen = [
        party.aggregate.initial() if isinstance(state, AggregateUnreadable) else state.state
        for party, state in zip(parties, states, strict=True)
    ]
    turns, keys = iter(joint.decide(command, *seen)), parties[0].states.new_keys()
    results: list[Done[Any]] = []
    for party, state in zip(parties, states, strict=True):
        if isinstance(state, AggregateUnreadable):
            raise state
        if party is parties[-1] and (only := joint.only_key(command)) is not None:
            context = replace(context, key=only)
        decisions = decided(lambda *_: _next(joint, turns), command, state, context)
        begin = party.states.begin_chains
        done = await enveloped(party.aggregate, decisions, state, context, begin=begin, keys=keys)
        results.append(done)
        if party is parties[0]:
            cause = done.events[-1]["_id"]
            context = replace(context, key=None, request="", condition=None, causation_id=cause)
    if next(turns, None) is not None:
        raise ValueError(f"{joint.name} decides for more than {len(parties)} aggregates")
    return results


def _next(joint: Joint[Any], turns: Iterator[Iterable[Decision]]) -> Sequence[Decision]:
    """The next aggregate's decisions. Only an event proves that its state is still the one that was
    decided on."""
    if decisions := [*next(turns, ())]:
        return decisions
    raise ValueError(f"{joint.name} decides nothing for one of its aggregates")


def _note_stored(joint: Joint[Any], parties: Sequence[Party], done: Sequence[Done[Any]]) -> None:
    for party, each in zip(parties, done, strict=True):
        party.states.remember(each.after)
    if log.isEnabledFor(logging.DEBUG):
        events = [event for each in done for event in each.events]
        ids = " and ".join(party.id for party in parties)
        log.debug("Stored a %s of %s", joint.name, ids, extra=about(events))
