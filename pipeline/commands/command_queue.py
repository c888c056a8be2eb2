"""The commands that wait for an aggregate, in the order in which they came."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic

from pipeline.commands.command_context import CommandContext
from pipeline.commands.execution import Done
from pipeline.commands.fairness import Fairness
from pipeline.model.aggregate import C, S

LONGEST: Final = 250
"""Commands in a batch at most, so that none waits for very many others."""


@dataclass(slots=True, eq=False)
class WaitingCommand(Generic[C, S]):
    """A command, and the future for its outcome."""

    command: C
    context: CommandContext
    outcome: asyncio.Future[Done[S]]
    conflicts: int = 0

    def settle(self, result: Done[S] | Exception) -> None:
        if self.outcome.done():  # its caller was cancelled
            return
        if isinstance(result, Exception):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)


@dataclass(slots=True, eq=False)
class CommandQueue(Generic[C, S]):
    """The commands that wait for one aggregate, and the task that serves them. `doubtful`: its
    remembered state may be old, so load it."""

    aggregate_id: str
    fairness: Fairness
    waiting: deque[WaitingCommand[C, S]] = field(default_factory=deque)
    doubtful: bool = False
    task: asyncio.Task[None] | None = None

    def next_batch(self) -> list[WaitingCommand[C, S]]:
        number = min(len(self.waiting), LONGEST)
        first = [self.waiting.popleft() for _ in range(number)]
        return [each for each in first if not each.outcome.done()]

    def postpone(self, undecided: Sequence[WaitingCommand[C, S]]) -> None:
        """Leave the end of a batch to the next one."""
        self.waiting.extendleft(reversed(undecided))

    def put_back(self, again: Sequence[WaitingCommand[C, S]]) -> None:
        """Have commands decided again, on a state that is loaded."""
        self.waiting.extendleft(reversed(again))
        self.doubtful = bool(again)
