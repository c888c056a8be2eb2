"""The nemesis: carries out a schedule, each step in time, whatever became of the one before."""

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from tests.torture.faults import FAULTS, Maker
from tests.torture.schedule import Step
from tests.torture.world import World

log = logging.getLogger(__name__)

PATIENCE: Final = 60.0


@dataclass
class Nemesis:
    """Steps that were begun, and for each that could not do its harm why not.

    `patience` is how long a fault may take to begin, and to heal, in seconds.
    """

    world: World
    steps: Sequence[Step]
    faults: Mapping[str, Maker] = field(default_factory=lambda: FAULTS)
    patience: float = PATIENCE
    begun: list[Step] = field(default_factory=list)
    missed: dict[Step, str] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out all steps; with `stop` begin no more, and heal what is begun."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for step in self.steps:
                if await _set_within(stop, began + step.begin - time.monotonic()):
                    break
                self.begun.append(step)
                tasks.create_task(self._carry_out(step, began, stop))

    async def _carry_out(self, step: Step, began: float, stop: asyncio.Event) -> None:
        fault = self.faults[step.fault](self.world, random.Random(step.seed))
        async with AsyncExitStack() as stack:
            its_turn = await self._try(step, stack.enter_async_context(fault.turn()))
            if its_turn and not stop.is_set():
                late = time.monotonic() - began - step.begin
                await self._try(step, fault.begin())
                await _set_within(stop, began + late + step.end - time.monotonic())
                await self._try(step, fault.heal())

    async def _try(self, step: Step, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it was done."""
        try:
            async with asyncio.timeout(self.patience):
                await work
        except Exception as error:
            log.debug("%s missed", step.fault, exc_info=True)
            self.missed.setdefault(step, repr(error)[:120])
            return False
        return True


async def _set_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until `stop` is set; whether it is."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True
