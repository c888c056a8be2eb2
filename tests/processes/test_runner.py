"""A process on the change stream: from the first event on, over restarts, whatever is lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from pipeline.coordination import driver as redis
from pipeline.eventstore.process_states import ProcessStates
from pipeline.operations.status.processes import process_status
from pipeline.processes import Processes, ProcessRunner
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import Check
from pipeline.support.settings import Settings
from tests.apps.cases import REMINDERS, Close, Touch
from tests.harness import Role, eventually
from tests.processes import workers
from tests.processes.conftest import World

NAMED = "tests.apps.cases:CASES"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"application": NAMED, "projections": "cases"})


class Ahead(datetime):
    """The clock of a machine that is a day ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> "Ahead":
        return cls.fromtimestamp(time.time() + 86_400, tz)


async def ahead(_: ProcessStates) -> datetime:
    return Ahead.now(UTC)


AHEAD = (ProcessStates, "now", ahead)
"""The clock of MongoDB, too."""


def running(
    settings: Settings, *names: str
) -> AbstractAsyncContextManager[dict[str, ProcessRunner]]:
    return workers(settings, REMINDERS, *(names or ["worker"]))


def reported(world: World, case: str, *expected: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await world.reports(case) == [*expected]

    return check


async def test_events_and_deadlines_are_answered_over_restarts(
    settings: Settings, world: World
) -> None:
    """A deadline that came while nobody ran is answered with its own time."""
    old = await world.opened(after=60_000)  # before there was a process
    async with running(settings):
        await eventually(reported(world, old, "touched 0"))
        new, due = await world.opened(after=60_000), await world.opened(after=200)
        await eventually(reported(world, new, "touched 0"))
        await eventually(reported(world, due, "touched 0", "reminded 1"))
    await world.connection.execute("case", new, Touch())
    async with running(settings):
        await eventually(reported(world, new, "touched 0", "touched 1"))
    deadline = (await world.kept(old))["due"]
    with patch("pipeline.processes.runner.datetime", Ahead), patch.object(*AHEAD):
        async with running(settings):
            await eventually(reported(world, old, "touched 0", "reminded 1"))
    [*_, reminded] = await world.store.load(old)
    assert reminded["body"]["due"] == deadline.replace(tzinfo=UTC).isoformat()


async def test_it_looks_for_deadlines_only_while_one_may_be_near(
    settings: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reaction may have set one."""
    monkeypatch.setattr("pipeline.processes.runner._AHEAD_SECONDS", 3600.0)
    monkeypatch.setattr("pipeline.processes.runner.LOOK_SECONDS", 0.05)
    with patch.object(
        ProcessStates, "waking", autospec=True, side_effect=ProcessStates.waking
    ) as looks:
        async with running(settings):
            case = await world.opened(after=200)
            await eventually(reported(world, case, "touched 0", "reminded 1"))
            await eventually(lambda: at_rest(looks))


async def at_rest(looks: AsyncMock) -> bool:
    """Whether it has not looked for as long as twenty looks would take."""
    before = looks.call_count
    await asyncio.sleep(1)
    return looks.call_count == before


async def test_a_lost_place_in_the_change_stream_sends_nothing_again(
    settings: Settings, world: World, events: Any
) -> None:
    case, closed = await world.opened(after=1), await world.opened(after=60_000)
    processes = events.database["processes"]
    async with running(settings):
        await eventually(reported(world, case, "touched 0", "reminded 1"))
        await eventually(reported(world, closed, "touched 0"))
    await world.connection.execute("case", closed, Close())
    number = await world.store.count()
    processes.update_one({"_id": "reminders"}, {"$set": {"token": "{}"}})
    async with running(settings):
        await eventually(reported(world, closed, "touched 0", "closed"))
    # All of its documents, too: it has never run.
    processes.delete_many({})
    async with running(settings):
        await eventually(lambda: walked(world, case))
    assert await world.store.count() == number + 1


async def walked(world: World, case: str) -> bool:
    """It has been through all events, and the deadline of that case."""
    position, kept = await world.store.processes.position("reminders"), await world.kept(case)
    return position.get("slot") == 1024 and bool(kept) and "wake" not in kept


async def test_a_walk_through_the_store_leaves_it_to_others_meanwhile(
    settings: Settings, world: World
) -> None:
    cases = [await world.opened(after=1) for _ in range(3)]
    began = time.monotonic()
    async with running(settings.model_copy(update={"rebuild_rate": 3})):
        await eventually(lambda: walked(world, cases[-1]))
    assert time.monotonic() - began >= 1


async def test_another_worker_goes_on_and_two_do_no_harm(settings: Settings, world: World) -> None:
    """A FLUSHALL makes two of them lead for a while."""
    async with running(settings, "first", "second", "third"):
        cases = []
        for number in range(30):
            cases.append(await world.opened(after=1))
            if number % 10 == 5:
                async with redis.client(settings.redis) as leases:
                    await leases.flushall()
        for case in cases:
            await eventually(reported(world, case, "touched 0", "reminded 1"))
    assert await world.store.count() == len(cases) * 4


async def test_a_clock_that_is_ahead_answers_nothing_early(
    settings: Settings, world: World
) -> None:
    """Neither that of MongoDB nor that of the worker."""
    case, other = await world.opened(after=3_600_000), await world.opened(after=1)
    with patch("pipeline.processes.runner.datetime", Ahead):
        async with running(settings):
            await eventually(reported(world, other, "touched 0", "reminded 1"))

    with patch.object(*AHEAD):
        another = await world.opened(after=1)
        async with running(settings):
            await eventually(reported(world, another, "touched 0", "reminded 1"))
    assert await world.reports(case) == ["touched 0"]


async def test_metrics_readiness_and_status_tell_who_runs_it_and_what_is_parked(
    settings: Settings, world: World, events: Any
) -> None:
    metrics = Metrics("worker")
    processes = Processes(settings, world.store, "the worker", metrics)

    async def value(name: str, **labels: str) -> float | None:
        await metrics.exposition()
        return metrics.registry.get_sample_value(name, {"name": "reminders", **labels})

    assert await value("bank_process_leading") == 0
    case, sick = await world.opened(after=60_000), await world.opened(after=60_000)
    events.update_one({"account_id": sick}, {"$set": {"schema": 99}})
    [ready] = processes.checks.values()
    async with processes.running():
        await eventually(reported(world, case, "touched 0"))
        await eventually(lambda: parked(world))
        assert await value("bank_process_leading") == 1
        assert await value("bank_process_commands_total", outcome="executed") == 1
        assert await value("bank_process_reactions_total", input="event") == 1
        assert await value("bank_process_parked") == 1
        assert await ready() == "instances that are parked: 1"
        assert await value("bank_process_overdue_seconds") == 0
        stray = {"_id": "reminders/stray", "process": "reminders", "aggregate_id": "stray"}
        kept = events.database["processes"]
        kept.insert_one({**stray, "wake": datetime(2025, 1, 1)})
        assert (await value("bank_process_overdue_seconds") or 0) > 86_400
        kept.delete_one(stray)
        lag = await value("bank_process_lag_seconds")
        assert lag is not None
        assert lag < 60
        shown = await process_status(world.store, REMINDERS)
        assert (shown.owner, shown.read) == ("the worker", 1)
        assert [each.id for each in shown.parked] == [sick]
        events.update_one({"account_id": sick}, {"$set": {"schema": 1}})
        assert await world.store.processes.retry("reminders", sick)
        await eventually(reported(world, sick, "touched 0"))
        await eventually(lambda: well(ready))
    assert await value("bank_process_leading") == 0
    await world.connection.execute("case", case, Touch())
    assert (await process_status(world.store, REMINDERS)).lag_events == 1


async def well(ready: Check) -> bool:
    return await ready() is None


async def parked(world: World) -> bool:
    return bool(await world.store.processes.parked(["reminders"], 1))


async def test_a_worker_that_is_killed_is_followed_by_another(
    settings: Settings, world: World, role: Callable[..., Awaitable[Role]]
) -> None:
    """Beside its partitions, of which the process knows nothing."""
    first = await role("bank", "worker")
    early = await world.opened(after=1)
    await eventually(reported(world, early, "touched 0", "reminded 1"), seconds=120)
    await first.kill()
    case = await world.opened(after=1)
    await role("bank", "worker")
    await eventually(reported(world, case, "touched 0", "reminded 1"), seconds=120)
