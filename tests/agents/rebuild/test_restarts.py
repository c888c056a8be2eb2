"""A generation is not shown while a restart of Elasticsearch may have gone unnoticed."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.agents.rebuild.agent import RebuildAgent
from pipeline.agents.rebuild.build import OnlineBuild
from pipeline.agents.rebuild.coordinator import Coordinator
from pipeline.banking.balance import BALANCE
from pipeline.model.events import slots_of
from pipeline.search import Generation, Generations
from pipeline.tables.checkpoints import PositionLost
from pipeline.tables.rebuild_job import RebuildJob
from tests.agents.rebuild.bank import Bank
from tests.agents.world import World
from tests.bank import PARTITIONS, accounts, append
from tests.harness import eventually, rounds

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(rounds(120, 300))]

Boots = dict[str, int]


def _nothing(_: Boots) -> None:
    return None


def _other(boots: Boots) -> Boots:
    return {node: at - 1 for node, at in boots.items()}


def _one_less(boots: Boots) -> Boots:
    return dict.fromkeys(list(boots)[1:], 0)


def _one_more(boots: Boots) -> Boots:
    return boots | {"it left the cluster": 1}


@pytest.mark.parametrize(
    ("trusted", "again"),
    [(_nothing, True), (_other, True), (_one_less, True), (dict, False), (_one_more, False)],
)
async def test_all_catch_up_once_more_after_a_restart_or_another_coordinator(
    bank: Bank,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    trusted: Callable[[Boots], Boots | None],
    again: bool,
) -> None:
    begin = Coordinator._begin

    async def begun(self: Coordinator, job: RebuildJob) -> None:
        await begin(self, job)
        boots: Any = {uuid: trusted(each) for uuid, each in self._trusted.items()}
        assert boots
        self._trusted = {uuid: each for uuid, each in boots.items() if each is not None}

    monkeypatch.setattr(Coordinator, "_begin", begun)
    await append(world.store, accounts(100, 3))
    runner = await world.start()
    before = {p: each.acquisition for p, each in runner.processors.items()}
    async with RebuildAgent(world.settings, runner):
        job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
        assert (await bank.over(job, seconds=60)).phase == "done"
    acquired = [each.acquisition - before[p] for p, each in runner.processors.items()]
    assert [bool(each) for each in acquired] == [again] * PARTITIONS
    assert await world.exact()


async def test_a_partition_that_is_not_replayed_when_readers_see_it_is_backfilled(
    bank: Bank, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def complete(*_: object) -> bool:
        return True

    monkeypatch.setattr(Coordinator, "_complete", complete)
    slow = world.settings.model_copy(update={"rebuild_rate": 20.0})
    await append(world.store, accounts(100, 3))
    runner = await world.start()
    async with RebuildAgent(slow, runner):
        job, _ = await bank.jobs.start("online", range(PARTITIONS), PARTITIONS)
        assert (await bank.over(job, seconds=60)).phase == "done"
    assert "balance" in (await bank.indexes())["balance-2"]
    await eventually(world.exact, seconds=30)


async def test_the_last_slot_is_replayed_when_it_is_written_and_not_when_it_has_begun() -> None:
    generation = Generation(2, "uuid", BALANCE)
    part, cursors = OnlineBuild.__new__(OnlineBuild), []
    slots = slots_of(0, PARTITIONS)
    checkpoints = SimpleNamespace(set_cursor=lambda *cursor: cursors.append(cursor))
    part.generation, part._slots = generation, slots
    part._context = cast(Any, SimpleNamespace(checkpoints=checkpoints))
    part._processor = cast(Any, SimpleNamespace(partition=0))
    building = SimpleNamespace(generation=generation, begun=slots.stop, cursor=slots.stop - 1)
    with pytest.raises(PositionLost):
        await part._stop_double_write(cast(Any, SimpleNamespace(building=building, live=None)))
    assert not cursors


async def test_an_acquisition_is_not_interrupted_for_what_it_is_to_replace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_live = Generations.ensure_live

    async def slow(self: Generations) -> Generation:
        await asyncio.sleep(1.5)  # several inspections long
        return await ensure_live(self)

    runner = await world.start()
    before = {p: each.acquisition for p, each in runner.processors.items()}
    monkeypatch.setattr(Generations, "ensure_live", slow)
    await world.curl("DELETE", "/bank-checkpoints")

    def acquired() -> bool:
        return all(
            each.owned is not None and each.acquisition > before[p]
            for p, each in runner.processors.items()
        )

    await eventually(acquired, seconds=60)
    assert {p: each.acquisition - before[p] for p, each in runner.processors.items()} == (
        dict.fromkeys(range(PARTITIONS), 1)
    )
