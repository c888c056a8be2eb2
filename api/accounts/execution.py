"""What executing a command means, however many are executed together: its event, and its answer."""

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from api.accounts.account import Account, decide, evolve
from api.accounts.command_context import CommandContext
from api.accounts.commands import Command, Create
from api.accounts.errors import Refused
from pipeline.model.events import Event, Transfer, new_event

ATTEMPTS: Final = 16
_FIRST_PAUSE: Final = 0.002


class TooManyConflicts(Exception):
    """Others wrote to the account in every one of `ATTEMPTS` attempts. Nothing was stored."""


class VersionMismatch(Refused):
    """The account has another version than the client requires: 0 if it does not exist yet."""

    def __init__(self, account_id: str, version: int) -> None:
        super().__init__(account_id)
        self.version = version


@dataclass(frozen=True, slots=True)
class Done:
    """A command's event, the account as it left it, and whether that was done before."""

    event: Event
    account: Account
    replayed: bool = False

    @property
    def transfer(self) -> Transfer | None:
        """Of which transfer the event is a leg."""
        return self.event["body"].get("transfer")


def execute(command: Command, state: Account, context: CommandContext) -> Done:
    """What the command makes of this state once its event is stored; or raise `Refused`."""
    _require_match(command, state, context)
    # One event a command: a row of commands may be cut between any two events.
    [(kind, body)] = decide(command, state)
    event = new_event(
        state.id, state.version + 1, kind, body, correlation_id=context.correlation_id
    )
    if context.key is not None:
        event["idempotency_key"], event["request"] = context.key, context.request
    if context.traceparent is not None:
        event["traceparent"] = context.traceparent
    return Done(event, evolve(state, event))


def _require_match(command: Command, state: Account, context: CommandContext) -> None:
    if context.condition is None or context.condition.admits(state.version):
        return
    # Of an account that should exist, and does not, that is the better answer.
    if state.version or isinstance(command, Create):
        raise VersionMismatch(state.id, state.version)


async def stand_back(attempt: int) -> None:
    """After attempt number 1, 2, 3, … in which somebody else was first, let them go on."""
    await asyncio.sleep(random.uniform(0, _FIRST_PAUSE * attempt))
