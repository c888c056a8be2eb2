"""Executes one command on a state: its events and its result. Batches and joint commands both use
it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

from pipeline.commands.command_context import CommandContext
from pipeline.commands.errors import VersionMismatch
from pipeline.commands.personal_keys import Keys
from pipeline.model.aggregate import Aggregate, C, Decision, Refused, S
from pipeline.model.chain import link
from pipeline.model.events import Event, new_event
from pipeline.model.personal import encrypted, has_any, with_content_of
from pipeline.model.versioned import Versioned, evolve

ATTEMPTS: Final = 16
_FIRST_PAUSE: Final = 0.002


@dataclass(slots=True)
class Done(Generic[S]):
    """A command's events, the aggregate after them, and whether an earlier request executed it.

    Of a repeated command `events` has the last one alone, which bears the key.
    """

    events: Sequence[Event]
    after: Versioned[S]
    replayed: bool = False


async def execute(
    aggregate: Aggregate[C, S],
    command: C,
    before: Versioned[S],
    context: CommandContext,
    *,
    begin: bool = True,
    keys: Keys | None = None,
) -> Done[S]:
    """The result of the command on this state, provided its events are stored; or raise `Refused`.

    `begin`: begin the aggregate's chain of hashes; one that has begun always goes on. `keys`: by
    which personal fields are encrypted, None to leave them in clear; raises what they raise.
    """
    decisions = decided(aggregate.decide, command, before, context)
    return await enveloped(aggregate, decisions, before, context, begin=begin, keys=keys)


def decided(
    decide: Callable[[C, S], Sequence[Decision]],
    command: C,
    before: Versioned[S],
    context: CommandContext,
) -> Sequence[Decision]:
    """What is decided, if the context's condition admits the version."""
    met = context.condition is None or context.condition.admits(before.version)
    if not met and before.version:
        raise VersionMismatch(before.id, before.version)
    try:
        decisions = decide(command, before.state)
    except Refused as refusal:
        refusal.aggregate_id = refusal.aggregate_id or before.id
        raise
    if not met:  # without an aggregate a refusal of `decide` is the more precise error
        raise VersionMismatch(before.id, before.version)
    return decisions


async def enveloped(
    aggregate: Aggregate[Any, S],
    decisions: Sequence[Decision],
    before: Versioned[S],
    context: CommandContext,
    *,
    begin: bool,
    keys: Keys | None,
) -> Done[S]:
    """The decisions as events. The last one has the idempotency key: so the state after a repeated
    command is that after the event under its key."""
    events: list[Event] = []
    state, personal = before, aggregate.personal
    if not any(kind in personal and has_any(body, personal[kind]) for kind, body in decisions):
        keys = None
    for kind, body in decisions:
        event = new_event(
            state.id,
            state.version + 1,
            kind,
            body,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            schema=aggregate.schema_of(kind),
        )
        if context.key is not None and len(events) == len(decisions) - 1:
            event["idempotency_key"], event["request"] = context.key, context.request
        if context.traceparent is not None:
            event["traceparent"] = context.traceparent
        if context.actor is not None:
            event["actor"] = context.actor
        if context.reference:
            event["reference"] = context.reference
        if context.description:
            event["description"] = context.description
        stored = event
        if keys is not None:  # one without such fields may have the digest of the whole command
            stored = encrypted(event, personal.get(kind, ()), await keys.of(state))
        if begin or state.chained:
            link(stored, state.hash)  # last: the hash covers all of the event
        event = with_content_of(stored, event)
        events.append(event)
        state = evolve(aggregate, state, event)
    return Done(events, state)


async def back_off(attempt: int) -> None:
    """Wait after attempt number 1, 2, 3, … in which another replica was first."""
    await asyncio.sleep(random.uniform(0, _FIRST_PAUSE * attempt))
