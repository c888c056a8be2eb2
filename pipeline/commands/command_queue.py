"""The commands that wait for an account, in the order in which they came."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from pipeline.commands.command_context import CommandContext
from api.accounts.commands import Command
from pipeline.commands.execution import Done
from pipeline.commands.fairness import AccountFairness

LONGEST: Final = 250
"""Commands in a batch at most, so that none waits for very many others."""


@dataclass(slots=True, eq=False)
class WaitingCommand:
    """A command, and the future for its outcome."""

    command: Command
    context: CommandContext
    outcome: asyncio.Future[Done]
    conflicts: int = 0

    def settle(self, result: Done | Exception) -> None:
        if self.outcome.done():  # its caller was cancelled
            return
        if isinstance(result, Exception):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)


@dataclass(slots=True, eq=False)
class CommandQueue:
    """The commands that wait for one account, and the task that serves them. `doubtful`: its
    remembered state may be old, so load it."""

    account_id: str
    fairness: AccountFairness
    waiting: deque[WaitingCommand] = field(default_factory=deque)
    doubtful: bool = False
    task: asyncio.Task[None] | None = None

    def next_batch(self) -> list[WaitingCommand]:
        number = min(len(self.waiting), LONGEST)
        first = [self.waiting.popleft() for _ in range(number)]
        return [each for each in first if not each.outcome.done()]

    def put_back(self, again: list[WaitingCommand]) -> None:
        self.waiting.extendleft(reversed(again))
        self.doubtful = bool(again)
