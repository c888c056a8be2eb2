"""Two workers do a step of a rebuild at once, or the one that does it is killed half way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from elasticsearch import TransportError

from pipeline.agents.rebuild.agent import RebuildAgent
from pipeline.agents.rebuild.coordinator import Coordinator
from pipeline.search import Generation, Generations
from pipeline.search.alias_swap import AliasSwap
from pipeline.tables.rebuild_job import Kind, RebuildJob
from tests.agents.rebuild.bank import Bank
from tests.agents.world import World
from tests.bank import PARTITIONS, accounts, append
from tests.harness import eventually, rounds

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(120, 300))]

Change = Callable[[RebuildJob], RebuildJob]


async def rebuilds(bank: Bank, world: World) -> None:
    """A rebuild is done, the generation before it is dropped, and the new one is exact."""
    await append(world.store, accounts(100, 3))
    runner = await world.start()
    quick = world.settings.model_copy(update={"rebuild_grace_seconds": 0.5})
    async with RebuildAgent(quick, runner):
        job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
        await eventually(lambda: bank.is_single(2), seconds=60, message="the old one is dropped")
        done = await bank.reaches(job, "done")
        assert (done.reason, done.old) == (None, 1)
        await eventually(world.exact, seconds=30)


async def test_a_generation_that_another_worker_swaps_meanwhile_was_not_deleted(
    bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, look = Coordinator._begin, AliasSwap.building

    async def look_late(self: AliasSwap) -> Generation | None:
        monkeypatch.setattr(AliasSwap, "building", look)
        new = await look(self)
        assert new is not None
        assert await self.swap(await self._generations.live(), new)
        return await look(self)

    async def begun(self: Coordinator, job: RebuildJob) -> None:
        await begin(self, job)
        monkeypatch.setattr(AliasSwap, "building", look_late)

    monkeypatch.setattr(Coordinator, "_begin", begun)
    await rebuilds(bank, world)


async def test_what_was_given_up_is_deleted_later_if_that_fails_at_first(
    bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, drop = Coordinator._begin, Generations.drop

    async def begun(self: Coordinator, job: RebuildJob) -> None:
        await begin(self, job)
        await bank.jobs.cancel(job.id)

    async def fail(self: Generations, generation: Generation) -> bool:
        monkeypatch.setattr(Generations, "drop", drop)
        raise TransportError(f"{generation.index} is not deleted")

    monkeypatch.setattr(Coordinator, "_begin", begun)
    monkeypatch.setattr(Generations, "drop", fail)
    await world.start()
    async with RebuildAgent(world.settings, world.runner):
        job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
        cancelled = await bank.reaches(job, "cancelled")
        await eventually(lambda: Generations.drop is drop, message="it failed")
        await eventually(lambda: bank.is_single(1), message="the new one is gone")
    assert cancelled.generation == 2


def _cancelled(job: RebuildJob) -> RebuildJob:
    return replace(job, phase="cancelled", finished=job.started)


def _failed(job: RebuildJob) -> RebuildJob:
    return replace(job, phase="failed", finished=job.started, reason="it seemed so")


@pytest.mark.parametrize(
    ("ended", "noted"), [(_cancelled, True), (_failed, True), (_cancelled, False)]
)
async def test_a_job_that_ends_during_its_swap_is_done(
    bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch, ended: Change, noted: bool
) -> None:
    """Not noted: who swapped was killed before it could say so."""
    swap = AliasSwap.swap

    async def swap_slowly(self: AliasSwap, *generations: Any) -> bool:
        done = await swap(self, *generations)
        current = bank.jobs.current
        assert current is not None
        await bank.jobs.change(current.id, ended)
        return done and noted

    monkeypatch.setattr(AliasSwap, "swap", swap_slowly)
    await rebuilds(bank, world)


@pytest.mark.parametrize("kind", ["online", "in-place"])
async def test_a_job_of_another_number_of_partitions_fails_while_it_is_built(
    bank: Bank, world: World, kind: Kind
) -> None:
    runner = await world.start()
    job, _ = await bank.jobs.start(kind, range(PARTITIONS), PARTITIONS + 1)
    built: dict[str, Any] = {"generation": 7, "uuid": "gone"} if kind == "online" else {}
    await bank.jobs.change(job.id, lambda job: replace(job, phase="building", **built))
    async with RebuildAgent(world.settings, runner):
        failed = await bank.over(job, seconds=60)
    assert (failed.phase, failed.reason) == ("failed", f"the bank has {PARTITIONS} partitions now")
