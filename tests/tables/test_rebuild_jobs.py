"""Rebuilds as durable jobs: whoever starts, joins, changes or cancels them at the same moment."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import Busy, NoSuchJob, Phase, RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import KEPT, RebuildJobs
from tests.harness import rounds

ALL = range(4)


@pytest.fixture
def jobs(js: JetStream) -> RebuildJobs:
    return RebuildJobs(js, BALANCE)


@pytest.fixture
def other(js: JetStream) -> RebuildJobs:
    """The jobs as another process knows them."""
    return RebuildJobs(js, BALANCE)


async def start(jobs: RebuildJobs) -> RebuildJob:
    """Start an online rebuild of four partitions."""
    job, _ = await jobs.start("online", ALL, 4)
    return job


async def ends(jobs: RebuildJobs, job: RebuildJob, phase: Phase, **changes: Any) -> RebuildJob:
    """What a worker does with it."""
    return await jobs.change(job.id, lambda was: replace(was, phase=phase, **changes))


async def seen(jobs: RebuildJobs) -> RebuildJob:
    """The job that was started last, as it is now."""
    await jobs.refresh()
    assert jobs.current is not None
    return jobs.current


async def test_before_the_first(js: JetStream, jobs: RebuildJobs) -> None:
    assert await jobs.refresh() == frozenset()
    assert (jobs.current, jobs.all(), jobs.job("01M84R485MRRW2CVHYB01DBWQ8")) == (None, [], None)
    assert await js.state("KV_rebuild") is None, "to look makes nothing"


async def test_one_is_started_and_everybody_knows(jobs: RebuildJobs, other: RebuildJobs) -> None:
    job, joined = await jobs.start("online", ALL, 4, concurrency=2)
    assert not joined
    assert job == await seen(jobs) == await seen(other)
    assert (job.kind, job.phase, job.partitions, job.of) == ("online", "wanted", (0, 1, 2, 3), 4)
    assert (job.concurrency, job.active, job.generation) == (2, True, None)
    assert other.parts(job) == [RebuildPart(job.id, partition) for partition in ALL]
    await jobs.note(RebuildPart(job.id, 2, "replaying", 10, 40, 1234.5, [1.5], "ann"))
    await other.refresh()
    parts = other.parts(job)
    assert [part.state for part in parts] == ["waiting", "waiting", "replaying", "waiting"]
    assert (parts[2].done, parts[2].total, parts[2].pauses_ms) == (10, 40, [1.5])
    assert parts[2].updated.endswith("Z")


async def test_the_same_is_joined_and_another_is_refused(
    jobs: RebuildJobs, other: RebuildJobs
) -> None:
    job = await start(jobs)
    phase: Phase
    for phase in ("wanted", "building", "swapped"):
        await ends(jobs, job, phase)
        again, joined = await other.start("online", ALL, 4, concurrency=3)
        assert (again.id, again.concurrency, joined) == (job.id, 1, True)
        with pytest.raises(Busy) as busy:
            await other.start("in-place", ALL, 4)
        assert busy.value.job.id == job.id
    await ends(jobs, job, "done")
    mended, joined = await other.start("in-place", [1], 4)
    assert (mended.id == job.id, joined) == (False, False)
    with pytest.raises(Busy):
        await jobs.start("in-place", [1, 2], 4)
    assert [each.id for each in other.all()] == [mended.id, job.id]


async def test_of_many_at_once_one_starts_it(settings: Settings) -> None:
    connections = [await JetStream.connect(settings.nats_url, "test") for _ in range(3)]
    for _ in range(rounds(5, 50)):
        everybody = [RebuildJobs(connections[n % 3], BALANCE) for n in range(9)]
        started = await asyncio.gather(*(each.start("online", ALL, 4) for each in everybody))
        assert len({job.id for job, _ in started}) == 1
        assert sum(not joined for _, joined in started) == 1
        job = await seen(everybody[0])
        assert [each.id for each in everybody[0].all() if each.active] == [job.id]
        assert all(each.reason is None for each in everybody[0].all()), "the others left nothing"
        await ends(everybody[0], job, "done")
    for each in connections:
        await each.close()


async def test_of_several_kinds_at_once_one_starts(js: JetStream) -> None:
    for _ in range(rounds(5, 50)):
        kinds = [RebuildJobs(js, BALANCE).start("in-place", [n % 3], 4) for n in range(6)]
        outcomes = await asyncio.gather(*kinds, return_exceptions=True)
        won = [each for each in outcomes if isinstance(each, tuple)]
        busy = [each for each in outcomes if isinstance(each, Busy)]
        assert (len(won), len(busy)) == (2, 4), outcomes
        assert len({job.id for job, _ in won} | {each.job.id for each in busy}) == 1
        await ends(RebuildJobs(js, BALANCE), won[0][0], "done")


async def test_a_failed_one_goes_on_where_it_was(jobs: RebuildJobs, other: RebuildJobs) -> None:
    job = await start(jobs)
    await ends(jobs, job, "failed", reason="no disk", generation=2, uuid="u", old=1, finished="now")
    again, joined = await other.start("online", ALL, 4, concurrency=4)
    assert (again.id, again.phase, joined) == (job.id, "wanted", False)
    assert (again.generation, again.uuid, again.old) == (2, "u", 1)
    assert (again.reason, again.finished, again.concurrency) == (None, None, 4)
    assert again == await seen(jobs)
    await ends(jobs, job, "failed", generation=None)
    assert (await start(other)).phase == "wanted"
    await ends(jobs, job, "failed")
    more, _ = await other.start("online", range(8), 8)
    assert more.id != job.id, "the partitions are others by now"
    await ends(jobs, more, "cancelled", generation=3)
    assert (await start(other)).generation is None


async def test_a_retry_by_many_at_once(js: JetStream, jobs: RebuildJobs) -> None:
    job = await start(jobs)
    for _ in range(rounds(5, 50)):
        await ends(jobs, job, "failed", generation=2)
        started = await asyncio.gather(
            *(RebuildJobs(js, BALANCE).start("online", ALL, 4) for _ in range(6))
        )
        assert {(each.id, each.phase) for each, _ in started} == {(job.id, "wanted")}
        assert sum(not joined for _, joined in started) == 1


async def overtaking(
    jobs: RebuildJobs, other: RebuildJobs, monkeypatch: pytest.MonkeyPatch
) -> RebuildJob:
    """Another kind is started between the two writes that start one."""
    put = jobs._bucket.put
    began: list[RebuildJob] = []

    async def slow(key: str, value: dict[str, Any], *, expected: int | None = None) -> int:
        if key == "current" and not began:
            began.append((await other.start("in-place", [3], 4))[0])
        return await put(key, value, expected=expected)

    monkeypatch.setattr(jobs._bucket, "put", slow)
    with pytest.raises(Busy):
        await jobs.start("online", ALL, 4)
    assert began[0].id == (await seen(jobs)).id
    return began[0]


async def test_one_that_was_overtaken_leaves_nothing(
    jobs: RebuildJobs, other: RebuildJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    won = await overtaking(jobs, other, monkeypatch)
    assert [each.id for each in jobs.all()] == [won.id]


async def test_a_retry_that_was_overtaken_can_be_tried_again(
    jobs: RebuildJobs, other: RebuildJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await start(jobs)
    await ends(jobs, job, "failed", reason="no disk", generation=2)

    # The other one decided before the retry was written: it has seen the job as failed.
    await other.refresh()
    monkeypatch.setattr(other, "refresh", lambda: asyncio.sleep(0))
    won = await overtaking(jobs, other, monkeypatch)
    failed = jobs.job(job.id)
    assert failed is not None
    assert (failed.phase, failed.reason, failed.generation) == ("failed", "no disk", 2)
    assert [each.id for each in jobs.all() if each.active] == [won.id]


async def test_what_nobody_carries_out_does_not_run(js: JetStream, jobs: RebuildJobs) -> None:
    """Whoever started it died between the two writes, or somebody deleted `current`."""
    job = await start(jobs)
    await Bucket(js, "rebuild").delete("current")
    await jobs.refresh()
    orphan = jobs.job(job.id)
    assert orphan is not None
    assert (orphan.phase, orphan.active) == ("failed", False)
    assert orphan.reason
    assert jobs.current is None
    assert (await start(jobs)).id != job.id


async def test_changes_at_once_are_all_made(js: JetStream, jobs: RebuildJobs) -> None:
    job = await start(jobs)
    more = [
        RebuildJobs(js, BALANCE).change(
            job.id, lambda was: replace(was, concurrency=was.concurrency + 1)
        )
        for _ in range(10)
    ]
    await asyncio.gather(*more)
    assert (await seen(jobs)).concurrency == 11
    revision = (await seen(jobs)).revision
    assert (await jobs.change(job.id, lambda was: was)).revision == revision, "nothing to write"


@pytest.mark.parametrize("job_id", ["01M84R485MRRW2CVHYB01DBWQ8", "*", ">", "", "a b", "a.b", "é"])
async def test_one_that_is_not_there(jobs: RebuildJobs, job_id: str) -> None:
    job = await start(jobs)
    assert jobs.job(job_id) is None
    with pytest.raises(NoSuchJob):
        await jobs.cancel(job_id)
    assert await seen(jobs) == job


async def test_cancel(jobs: RebuildJobs) -> None:
    phase: Phase
    for phase in ("wanted", "building", "cancelled"):
        job = await start(jobs)
        await ends(jobs, job, phase)
        cancelled = await jobs.cancel(job.id)
        assert cancelled.phase == "cancelled"
        assert cancelled == await seen(jobs)
        assert (cancelled.finished is not None) == (phase != "cancelled")
    for phase in ("failed", "done", "swapped"):
        job = await start(jobs)
        await ends(jobs, job, phase)
        assert (await jobs.cancel(job.id)).phase == phase


async def test_cancel_and_the_swap_at_once(js: JetStream, jobs: RebuildJobs) -> None:
    """One of the two is told that it came too late."""

    def swap(job: RebuildJob) -> RebuildJob:
        return replace(job, phase="swapped") if job.phase == "building" else job

    for _ in range(rounds(5, 50)):
        job = await start(jobs)
        await ends(jobs, job, "building")
        cancelled, swapped = await asyncio.gather(
            RebuildJobs(js, BALANCE).cancel(job.id), RebuildJobs(js, BALANCE).change(job.id, swap)
        )
        assert cancelled.phase == swapped.phase == (await seen(jobs)).phase
        await ends(jobs, job, "done")


async def test_old_ones_are_forgotten(js: JetStream, jobs: RebuildJobs) -> None:
    bucket = Bucket(js, "rebuild")
    await bucket.put("job.0", {"by": "hand"})
    await bucket.put("other", {"by": "hand"})
    ids = []
    for _ in range(KEPT + 3):
        job, _ = await jobs.start("in-place", [0], 4)
        await jobs.note(RebuildPart(job.id, 0, "done"))
        await ends(jobs, job, "done")
        ids.append(job.id)
        await asyncio.sleep(0.002)  # ids of one millisecond do not sort by time
    await jobs.refresh()
    kept = [job.id for job in jobs.all()]
    assert kept == ids[: -KEPT - 2 : -1]
    keys = (await bucket.entries()).keys()
    assert keys == {
        "current",
        "job.0",
        "other",
        *(f"job.{each}" for each in kept),
        *(f"part.{each}.0" for each in kept),
    }


async def test_what_somebody_wrote_by_hand(
    js: JetStream, jobs: RebuildJobs, other: RebuildJobs
) -> None:
    """It is none: a new rebuild can always be started, and what is right stays known."""
    job = await start(jobs)
    bucket = Bucket(js, "rebuild")
    stored = await bucket.get(job.key)
    assert stored is not None
    for wrong in (
        {},
        {**stored.value, "phase": "paused"},
        {**stored.value, "partitions": "all"},
        {**stored.value, "id": "01M84R485MRRW2CVHYB01DBWQ8"},
    ):
        await bucket.put(job.key, wrong)
        await other.refresh()
        assert (other.current, other.job(job.id), other.all()) == (None, None, [])
        with pytest.raises(NoSuchJob):
            await other.cancel(job.id)
    await (await js.context.key_value("rebuild")).put(job.key, b"no JSON")
    assert (await start(other)).id != job.id
    for pointer in ({}, {"id": 7}, {"id": job.id}, {"id": "*"}):
        await bucket.put("current", pointer)
        await other.refresh()
        assert other.current is None
        assert await start(other) == await seen(jobs)
    await (await js.context.key_value("rebuild")).put("current", b"no JSON")
    assert await start(other) == await seen(jobs)


@pytest.mark.parametrize(
    "wrong", [{}, {"state": "asleep"}, {"done": "many"}, {"partition": 3}, {"pauses_ms": 1}]
)
async def test_a_part_written_by_hand_counts_as_none(
    js: JetStream, jobs: RebuildJobs, wrong: dict[str, Any]
) -> None:
    job = await start(jobs)
    part = RebuildPart(job.id, 1, "replaying", 1, 2)
    await jobs.note(part)
    stored = await Bucket(js, "rebuild").get(part.key)
    assert stored is not None
    await Bucket(js, "rebuild").put(part.key, {**stored.value, **wrong} if wrong else {})
    await jobs.refresh()
    assert jobs.parts(job)[1] == RebuildPart(job.id, 1)
    await jobs.note(part)
    await jobs.refresh()
    assert jobs.parts(job)[1].state == "replaying"
