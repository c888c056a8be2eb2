"""A process on the change stream: from the first event on, over restarts, whatever is lost."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.coordination import driver as redis
from pipeline.eventstore.process_states import ProcessStates
from pipeline.processes import Processes, ProcessRunner
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.metrics import Metrics
from pipeline.support.settings import PREFIX, Settings, environment
from tests.apps.cases import REMINDERS, Close, Touch
from tests.harness import Role, eventually
from tests.processes.conftest import World

NAMED = "tests.apps.cases:CASES"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"application": NAMED, "projections": "cases"})


@asynccontextmanager
async def running(settings: Settings, *names: str) -> AsyncIterator[dict[str, ProcessRunner]]:
    """Workers of these names, of which one runs the process; killed at the end."""
    runners = {each: ProcessRunner(settings, REMINDERS, each) for each in names or ["worker"]}
    tasks = [asyncio.create_task(each.run()) for each in runners.values()]
    try:
        yield runners
    finally:
        for task in tasks:
            await cancel_and_wait(task)


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
        soon = await world.opened(after=700)
        await eventually(reported(world, soon, "touched 0"))
        deadline = (await world.kept(soon))["due"]
    await world.connection.execute("case", new, Touch())
    async with running(settings):
        await eventually(reported(world, new, "touched 0", "touched 1"))
        await eventually(reported(world, soon, "touched 0", "reminded 1"))
    [*_, reminded] = await world.store.load(soon)
    assert reminded["body"]["due"] == deadline.replace(tzinfo=UTC).isoformat()
    assert await world.reports(old) == ["touched 0"]


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
        await eventually(lambda: _walked(world))
    assert await world.store.count() == number + 1


async def _walked(world: World) -> bool:
    return (await world.store.processes.position("reminders")).get("slot") == 1024


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

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1)

    with patch("pipeline.processes.runner.datetime", Ahead):
        async with running(settings):
            await eventually(reported(world, other, "touched 0", "reminded 1"))

    async def ahead(_: ProcessStates) -> datetime:
        return datetime.now(UTC) + timedelta(days=1)

    with patch.object(ProcessStates, "now", ahead):
        another = await world.opened(after=1)
        async with running(settings):
            await eventually(reported(world, another, "touched 0", "reminded 1"))
    assert await world.reports(case) == ["touched 0"]


async def test_metrics_readiness_and_command_tell_who_runs_it_and_what_is_parked(
    settings: Settings, world: World, events: Any
) -> None:
    metrics = Metrics("worker")
    processes = Processes(settings, "the worker", metrics)

    async def value(name: str, **labels: str) -> float | None:
        await metrics.exposition()
        return metrics.registry.get_sample_value(name, {"process": "reminders", **labels})

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
        lag = await value("bank_process_lag_seconds")
        assert lag is not None
        assert lag < 60
        [shown] = json.loads(await bank(settings, "--json"))
        assert (shown["owner"], shown["read"], shown["lag_events"]) == ("the worker", 1, 0)
        assert shown["parked"][0]["id"] == sick
        assert sick in await bank(settings)
        events.update_one({"account_id": sick}, {"$set": {"schema": 1}})
        assert await bank(settings, "retry", "reminders", sick) == f"{sick}: asked\n"
        await eventually(reported(world, sick, "touched 0"))
    assert "is not parked" in await bank(settings, "retry", "reminders", sick)
    assert await value("bank_process_leading") == 0


async def parked(world: World) -> bool:
    return bool(await world.store.processes.parked(["reminders"], 1))


async def bank(settings: Settings, *words: str) -> str:
    """What the command prints."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    environ = {**clean, **environment(settings), "COLUMNS": "200"}
    asked = partial(CliRunner().invoke, main, ["processes", *words], env=environ)
    return (await asyncio.to_thread(asked)).output


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
