"""Reactions on a real event store: each follows once from its input, whoever dies, and when."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from pipeline.banking.application import BANK
from pipeline.banking.commands import Create
from pipeline.banking.events import CREATED
from pipeline.commands import Connection
from pipeline.eventstore.process_states import ProcessStates
from pipeline.model.events import Event
from pipeline.model.personal import FORGOTTEN
from pipeline.model.process import Process, Reaction, Send
from pipeline.processes.instance import Instance
from pipeline.processes.metrics import ProcessMetrics
from pipeline.processes.reactions import Reactions
from tests.apps.cases import DESK, Close, Touch, Watched, on_due, react
from tests.processes.conftest import World

Later = Callable[[], datetime]
KINDS = ("CaseOpened", "CaseTouched", "CaseClosed")


def process(**changes: Any) -> Process[Any]:
    about: dict[str, Any] = {"initial": Watched, "react": react, "on_due": on_due, "kinds": KINDS}
    return Process("reminders", **{**about, **changes})


EFFECTS = 7
"""Of a new case with one reminder: `doing`, a command, the state; `doing`, two commands, the
state."""


class Killed(BaseException):
    """The worker is gone."""


@contextmanager
def killed_at(place: int) -> Iterator[None]:
    """At that effect of a worker on the store it is gone: even places are before, odd ones after
    it."""
    effects = 0

    def fatal(how: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def effect(*arguments: Any, **named: Any) -> Any:
            nonlocal effects
            number, effects = effects, effects + 1
            if place == 2 * number:
                raise Killed
            result = await how(*arguments, **named)
            if place == 2 * number + 1:
                raise Killed
            return result

        return effect

    with (
        patch.object(ProcessStates, "put", fatal(ProcessStates.put)),
        patch.object(Connection, "execute", fatal(Connection.execute)),
    ):
        yield


async def test_what_follows_is_executed_and_kept(world: World, later: Later) -> None:
    case = await world.opened(reminders=2)
    reactions = world.reactions()
    await reactions.advance(case, version=1)
    assert await world.reports(case) == ["touched 0"]
    kept = await world.kept(case)
    assert (kept["version"], kept["state"]["left"]) == (1, 2)
    assert kept["wake"] == kept["due"]
    await reactions.advance(case, now=later())
    assert await world.reminders(case) == [1, 2]
    assert await world.reports(case) == ["touched 0", "reminded 1", "reminded 2"]
    kept = await world.kept(case)
    assert not {"due", "wake", "doing", "parked"} & kept.keys()
    [opened, *_] = await world.store.load(case)
    [first, *_] = [e for e in await world.store.load(DESK) if e["body"]["case"] == case]
    assert first["causation_id"] == opened["_id"]
    assert first["correlation_id"] == opened["correlation_id"]


async def test_a_worker_that_dies_anywhere_leaves_all_to_the_next(
    world: World, later: Later
) -> None:
    """The next one may meet a newer event first: it still answers what was begun before it."""
    for place in range(EFFECTS * 2):
        case = await world.opened(reminders=1)
        with killed_at(place), pytest.raises(Killed):
            await world.reactions().advance(case, now=later())
        await world.connection.execute("case", case, Touch())
        await world.reactions().advance(case, now=later())
        await world.reactions().advance(case, now=later())
        assert await world.reminders(case) == [1], place
        reports = await world.reports(case)
        assert sorted(reports) == ["reminded 1", "touched 0", "touched 1"], place
        state = (await world.kept(case))["state"]
        assert (state["reminded"], state["touched"], state["left"]) == (1, 1, 0), place


async def test_the_places_are_all_that_there_are(world: World, later: Later) -> None:
    case = await world.opened()
    with killed_at(EFFECTS * 2):
        await world.reactions().advance(case, now=later())
    assert await world.reminders(case) == [1]


async def test_two_workers_at_once_do_no_harm(world: World, later: Later) -> None:
    cases = [await world.opened(reminders=2) for _ in range(6)]
    workers = [world.reactions() for _ in range(3)]
    for case in cases:
        await world.connection.execute("case", case, Touch())
    everybody = (worker.advance(case, now=later()) for worker in workers for case in cases)
    await asyncio.gather(*everybody)
    expected = ["touched 0", "touched 1", "reminded 1", "reminded 2"]
    for case in cases:
        assert await world.reminders(case) == [1, 2]
        assert await world.reports(case) == expected


async def test_a_refusal_is_an_answer(world: World, later: Later) -> None:
    """The process comes too late: the case itself says so."""
    case = await world.opened()
    await world.reactions().advance(case)
    await world.connection.execute("case", case, Close())
    forgetful = process(kinds=["CaseOpened"])
    await world.reactions(forgetful).advance(case, now=later())
    assert await world.reminders(case) == []
    assert (await world.kept(case))["state"]["reminded"] == 1


async def test_what_raises_parks_its_instance_until_it_is_tried_again(
    world: World, later: Later
) -> None:
    def poison(case: Watched, event: Event) -> Reaction[Watched]:
        if event["kind"] == "CaseTouched":
            raise ValueError("do not touch")
        return react(case, event)

    case, other = await world.opened(), await world.opened()
    await world.connection.execute("case", case, Touch())
    broken = world.reactions(process(react=poison))
    await broken.advance(case, version=2)
    await broken.advance(other, version=1)
    [parked] = await world.store.processes.parked(["reminders"], 10)
    assert parked["aggregate_id"] == case
    assert "do not touch" in parked["parked"]["reason"]
    assert (parked["version"], parked["parked"]["attempts"]) == (1, 1)
    assert await world.reports(other) == ["touched 0"]

    await world.connection.execute("case", case, Touch())
    await broken.advance(case, version=3)  # its turn has not come
    await broken.advance(case, now=later())
    assert (await world.kept(case))["parked"]["attempts"] == 2
    repaired = world.reactions()
    await repaired.advance(case, now=later() - timedelta(days=2))
    assert await world.reports(case) == ["touched 0"]
    await repaired.advance(case, now=later())
    assert (await world.reports(case))[:3] == ["touched 0", "touched 1", "touched 2"]
    assert not await world.store.processes.parked(["reminders"], 10)


async def test_a_command_to_nobody_parks_too(world: World) -> None:
    case = await world.opened(after=60_000)
    lost = process(react=lambda case, event: Reaction(case, [Send("ghost", "1", Touch())]))
    await world.reactions(lost).advance(case)
    assert "has no aggregate 'ghost'" in (await world.kept(case))["parked"]["reason"]
    assert (await world.kept(case))["doing"] == 1
    assert await world.store.processes.retry("reminders", case)
    await world.reactions().advance(case, now=await world.store.processes.now())
    assert await world.reports(case) == ["touched 0"]


async def test_the_next_attempt_is_by_the_servers_clock(world: World) -> None:
    """Whatever time it is where the instance is parked, and where somebody asks for another try."""
    case = await world.opened(after=60_000)
    its = datetime(2020, 1, 31, 12, tzinfo=UTC)
    lost = process(react=lambda case, event: Reaction(case, [Send("ghost", "1", Touch())]))
    with patch.object(ProcessStates, "now", AsyncMock(return_value=its)):
        await world.reactions(lost).advance(case)
        first = (await world.kept(case))["parked"]
        assert await world.store.processes.retry("reminders", case)
    assert first["since"].replace(tzinfo=UTC) == its < first["retry"].replace(tzinfo=UTC)
    kept = await world.kept(case)
    assert kept["wake"] == kept["parked"]["retry"] == its.replace(tzinfo=None)


async def test_a_state_that_can_not_be_kept_parks_too(world: World) -> None:
    case = await world.opened(after=60_000)
    huge = process(react=lambda case, event: Reaction(Watched(left=1 << 70)))
    await world.reactions(huge).advance(case)
    assert "can't be kept" in (await world.kept(case))["parked"]["reason"]


async def test_personal_fields_are_read_until_they_are_forgotten(world: World, events: Any) -> None:
    """An event whose key is lost parks its instance."""
    bank = Connection(BANK, world.store)
    await bank.service.open()

    def named(_: Watched, event: Event) -> Reaction[Watched]:
        return Reaction(Watched(event["body"]["owner"]))

    async def owner(account: str, version: int) -> Any:
        owners = process(react=named, kinds=[CREATED], version=version)
        reactions = Reactions(owners, world.store, bank, ProcessMetrics())
        await reactions.advance(account, version=1)
        return (await world.kept(account)).get("state", {}).get("id")

    ada, bob = [(await bank.create("account", Create(each, 0))).after.id for each in ("Ada", "Bob")]
    assert await owner(ada, version=1) == "Ada"
    await bank.forget("account", ada)
    assert await owner(ada, version=2) == FORGOTTEN
    events.database["subject_keys"].delete_one({"_id": bob})
    assert await owner(bob, version=1) == ""
    [parked] = await world.store.processes.parked(["reminders"], 10)
    assert parked["aggregate_id"] == bob
    assert "can't be decrypted" in parked["parked"]["reason"]


async def test_another_version_makes_the_state_of_the_events_again(
    world: World, later: Later
) -> None:
    """It sends nothing of that, and what comes due again has been executed."""
    case = await world.opened(reminders=1)
    await world.connection.execute("case", case, Touch())
    await world.reactions().advance(case, now=later())
    before = await world.reports(case)

    def counting(case: Watched, event: Event) -> Reaction[Watched]:
        after = react(case, event)
        return Reaction(
            Watched(**{**vars_of(after.state), "touched": after.state.touched + 10}),
            after.commands,
            after.due,
        )

    await world.connection.execute("case", case, Close())
    await world.reactions(process(react=counting, version=2)).advance(case, now=later())
    assert await world.reports(case) == [*before, "closed"]
    assert await world.reminders(case) == [1]
    kept = await world.kept(case)
    assert (kept["made_by"], kept["state"]["touched"]) == (2, 31)


def vars_of(case: Watched) -> dict[str, Any]:
    return {name: getattr(case, name) for name in Watched.__dataclass_fields__}


async def test_a_state_that_can_not_be_read_is_made_again(world: World, events: Any) -> None:
    case = await world.opened(after=60_000)
    await world.reactions().advance(case)
    collection = events.database["processes"]
    collection.update_one({"aggregate_id": case}, {"$set": {"state": {"odd": 1}}})
    await world.connection.execute("case", case, Touch())
    await world.reactions().advance(case)
    assert (await world.kept(case))["state"]["touched"] == 1
    assert await world.reports(case) == ["touched 0", "touched 1"]


async def test_nothing_is_sent_again_where_all_states_are_lost(
    world: World, events: Any, later: Later
) -> None:
    case = await world.opened()
    await world.connection.execute("case", case, Touch())
    await world.reactions().advance(case, now=later())
    before = await world.reports(case), await world.reminders(case)
    events.database["processes"].delete_many({})
    await world.reactions().advance(case, now=later())
    assert (await world.reports(case), await world.reminders(case)) == before


def test_the_keys_of_an_instance_are_no_clients() -> None:
    instance = Instance.new(process(), "case-1")
    due = datetime(2025, 1, 1, tzinfo=UTC)
    assert instance.key(due, 1) == "reminders→case-1/0/2025-01-01T00:00:00+00:00/1"
    assert not instance.key(due, 1).isascii()
