"""The gate: whoever shuts it waits for those inside, and nobody passes until all have opened it."""

import asyncio

from tests.harness import eventually
from tests.torture.gate import Gate


async def test_it_is_shut_when_nobody_is_inside_and_opens_again() -> None:
    gate, told = Gate(), list[str]()
    leave = asyncio.Event()

    async def client(name: str) -> None:
        async with gate.passing():
            told.append(name)
            await leave.wait()
        told.append(f"{name} left")

    async def fault(name: str, end: asyncio.Event) -> None:
        async with gate.shut():
            told.append(name)
            await end.wait()

    first, second = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client("in time"))
        await asyncio.sleep(0)
        faults = [tasks.create_task(fault(n, e)) for n, e in (("one", first), ("two", second))]
        await asyncio.sleep(0)
        tasks.create_task(client("late"))
        await asyncio.sleep(0.2)
        assert told == ["in time"]
        leave.set()
        both = ["in time", "in time left", "one", "two"]
        await eventually(lambda: told == both, message="both have shut it")
        first.set()
        await faults[0]
        await asyncio.sleep(0)
        assert told == both
        second.set()
    assert told[4:] == ["late", "late left"]
