"""How far a rebuild is and how long it has come no further, as Prometheus is told."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from api.balances.app import create_app
from api.balances.rebuild_metrics import Running, StallWatch
from pipeline.banking.balance import BALANCE
from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.ports import free_port
from tests.scrape import Scrape, parsed
from tests.services import Client, serving

JOB = RebuildJob("01JD0000000000000000000000", "online", "building", (0, 1), 2, 1, "", uuid="u")


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parts(*done: int, state: str = "replaying") -> list[RebuildPart]:
    return [
        RebuildPart(JOB.id, p, "replaying" if state == "replaying" else "replayed", each, 100)
        for p, each in enumerate(done)
    ]


def still(watch: StallWatch, job: RebuildJob, *done: int, state: str = "replaying") -> float:
    seen = watch.update(job, parts(*done, state=state))
    assert seen is not None
    return seen.still_seconds


def test_a_rebuild_that_comes_no_further_is_still() -> None:
    clock = Clock()
    watch = StallWatch(clock)
    assert watch.update(JOB, parts(0, 0)) == Running(0, 200, 0)
    clock.now += 60
    assert watch.update(JOB, parts(0, 0)) == Running(0, 200, 60)
    assert watch.update(JOB, parts(0, 5)) == Running(5, 200, 0)
    clock.now += 60
    assert still(watch, JOB, 0, 5) == 60


def test_what_begins_anew_comes_further_beyond_where_it_was() -> None:
    clock = Clock()
    watch = StallWatch(clock)
    assert still(watch, JOB, 50, 0) == 0
    clock.now += 60
    assert still(watch, JOB, 0, 0) == 60
    assert still(watch, JOB, 50, 0) == 60
    assert still(watch, JOB, 51, 0) == 0


def test_states_and_phases_are_ways_further() -> None:
    clock = Clock()
    watch = StallWatch(clock)
    still(watch, JOB, 50, 50)
    clock.now += 60
    assert still(watch, JOB, 50, 50, state="replayed") == 0
    clock.now += 60
    assert still(watch, replace(JOB, phase="swapped"), 50, 50, state="replayed") == 0


def test_none_under_way_is_none_and_the_next_one_begins_anew() -> None:
    clock = Clock()
    watch = StallWatch(clock)
    assert watch.update(None, []) is None
    still(watch, JOB, 50, 50)
    clock.now += 60
    assert watch.update(replace(JOB, phase="failed"), parts(50, 50)) is None
    assert still(watch, JOB, 0, 0) == 0
    clock.now += 60
    assert still(watch, replace(JOB, uuid="another"), 0, 0) == 0


# ------------------------------------------------------------------ as the service tells it


@pytest.fixture
async def balances(settings: Settings) -> AsyncIterator[Client]:
    kept = {"projections": "balance statement"}
    async with serving(create_app(settings.model_copy(update=kept)), ready=False) as client:
        yield client


async def told(client: Client) -> Scrape:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        return parsed(await answer.text())


async def test_a_rebuild_that_nobody_works_at_is_told_until_it_is_cancelled(
    settings: Settings, balances: Client
) -> None:
    js = await JetStream.connect(settings.nats_url, "test")
    jobs = RebuildJobs(js, BALANCE)
    try:
        assert (await told(balances))("bank_rebuild_running", projection="balance") == 0
        job, _ = await jobs.start("online", [0, 1], 2)
        await jobs.note(RebuildPart(job.id, 1, "replaying", done=30, total=90))
        first = await told(balances)
        assert first("bank_rebuild_running", projection="balance") == 1
        assert first("bank_rebuild_running", projection="statement") == 0
        assert first("bank_rebuild_events", projection="balance") == 90
        assert first("bank_rebuild_events_replayed", projection="balance") == 30
        assert math.isnan(first("bank_rebuild_still_seconds", projection="statement"))
        await asyncio.sleep(0.01)
        later = await told(balances)
        assert later("bank_rebuild_still_seconds", projection="balance") >= 0.01
        await jobs.cancel(job.id)
        gone = await told(balances)
        assert gone("bank_rebuild_running", projection="balance") == 0
        assert math.isnan(gone("bank_rebuild_still_seconds", projection="balance"))
    finally:
        await js.close()


async def test_what_is_not_known_is_nan(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"nats_url": f"nats://127.0.0.1:{free_port()}"})
    async with serving(create_app(nowhere), ready=False) as client:
        found = await told(client)
    figures = [value for (name, _), value in found.samples.items() if "bank_rebuild" in name]
    assert len(figures) == 4
    assert all(map(math.isnan, figures))
