"""Executes one command on a state: its event and its answer. Batches and transfers both use it."""

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from api.accounts.account import Account, decide, evolve
from pipeline.commands.command_context import CommandContext
from api.accounts.commands import Command, Create
from api.accounts.errors import Refused
from pipeline.banking.events import Transfer
from pipeline.model.chain import link
from pipeline.model.events import Event, new_event

ATTEMPTS: Final = 16
_FIRST_PAUSE: Final = 0.002


class TooManyConflicts(Exception):
    """Another replica wrote to the account in each of `ATTEMPTS` attempts. Nothing was stored."""


class VersionMismatch(Refused):
    """The account has another version than the client requires: 0 if it does not exist yet."""

    def __init__(self, account_id: str, version: int) -> None:
        super().__init__(account_id)
        self.version = version


@dataclass(slots=True)
class Done:
    """A command's event, the account after it, and whether it was executed by an earlier
    request."""

    event: Event
    account: Account
    replayed: bool = False

    @property
    def transfer(self) -> Transfer | None:
        """The transfer of which the event is a leg."""
        return self.event["body"].get("transfer")


def execute(
    command: Command, state: Account, context: CommandContext, *, begin: bool = True
) -> Done:
    """The result of the command on this state, provided its event is stored; or raise `Refused`.

    `begin`: begin the account's chain of hashes; one that has begun always goes on.
    """
    _require_match(command, state, context)
    # One event for each command: an append may be cut between any two events of a batch.
    [(kind, body)] = decide(command, state)
    event = new_event(
        state.id,
        state.version + 1,
        kind,
        body,
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
    )
    if context.key is not None:
        event["idempotency_key"], event["request"] = context.key, context.request
    if context.traceparent is not None:
        event["traceparent"] = context.traceparent
    if context.actor is not None:
        event["actor"] = context.actor
    if context.reference:
        event["reference"] = context.reference
    if context.description:
        event["description"] = context.description
    if begin or state.chained:
        link(event, state.hash)  # last: the hash covers all of the event
    return Done(event, evolve(state, event))


def _require_match(command: Command, state: Account, context: CommandContext) -> None:
    if context.condition is None or context.condition.admits(state.version):
        return
    # Without the account, `decide` raises AccountNotFound, which is the more precise error.
    if state.version or isinstance(command, Create):
        raise VersionMismatch(state.id, state.version)


async def back_off(attempt: int) -> None:
    """Wait after attempt number 1, 2, 3, … in which another replica was first."""
    await asyncio.sleep(random.uniform(0, _FIRST_PAUSE * attempt))
