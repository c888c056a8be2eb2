"""The nemesis: whom a fault waits for, and what becomes of it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.harness import eventually
from tests.torture.faults import Fault
from tests.torture.nemesis import Nemesis
from tests.torture.schedule import Step
from tests.torture.world import World

NOBODY = cast(World, None)


class Lone(Fault):
    """Two of them do no harm at the same time."""

    told: list[str]
    lock: asyncio.Lock

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self.lock:
            yield

    async def begin(self) -> None:
        self.told.append("begin")

    async def heal(self) -> None:
        await asyncio.sleep(0)
        self.told.append("heal")


class Kept(Lone):
    """Its turn never comes."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


def nemesis(fault: type[Lone], steps: list[Step], patience: float) -> tuple[Nemesis, list[str]]:
    told, lock = list[str](), asyncio.Lock()

    def make(world: World, chance: random.Random) -> Fault:
        made = fault(world, chance)
        made.told, made.lock = told, lock
        return made

    return Nemesis(NOBODY, steps, {"fault": make}, patience), told


async def test_a_fault_waits_for_its_turn() -> None:
    steps = [Step(0.0, 0.2, "fault", 1), Step(0.1, 0.3, "fault", 2)]
    carrier, told = nemesis(Lone, steps, 10)
    await carrier.run(asyncio.Event())
    assert told == ["begin", "heal"] * 2
    assert not carrier.missed


async def test_one_whose_turn_does_not_come_does_no_harm() -> None:
    step = Step(0.0, 0.1, "fault", 1)
    carrier, told = nemesis(Kept, [step], 0.2)
    await carrier.run(asyncio.Event())
    assert told == []
    assert list(carrier.missed) == [step]


async def test_when_all_is_to_stop_none_begins_any_more() -> None:
    steps = [Step(0.0, 60.0, "fault", 1), Step(0.1, 60.0, "fault", 2)]
    carrier, told = nemesis(Lone, steps, 10)
    stop = asyncio.Event()
    running = asyncio.create_task(carrier.run(stop))
    await eventually(lambda: len(carrier.begun) == 2, message="both have been begun")
    stop.set()
    await running
    assert told == ["begin", "heal"]
