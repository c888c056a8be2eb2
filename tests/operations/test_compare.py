"""A comparison names what hands did to an index, all of it and nothing else, and writes nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.model.events import Event, new_event, partition_of, slot_of, slots_of
from pipeline.operations.repair.compare import Comparison
from pipeline.operations.repair.diff import Difference
from pipeline.search import ProjectionUnavailable
from pipeline.support.settings import Settings
from tests.bank import accounts, append
from tests.damage import CHANGES, GHOSTS
from tests.stores import Stores, stores

pytestmark = pytest.mark.elasticsearch

EVERYTHING = range(1024)
STRANGE = ("no account's", "../../balance", "ﬁ/ø?&=#%", " ", "x" * 500)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[Stores]:
    async with stores(settings) as world:
        yield world


class OnItsWay:
    """A log of which some slots are not applied."""

    def __init__(self, slots: range) -> None:
        self._slots, self._end = slots, object()

    async def end(self) -> object:
        return self._end

    async def behind(self, end: object) -> range:
        assert end is self._end
        return self._slots


def comparison(
    world: Stores,
    *,
    moving: range = range(0),
    parked: frozenset[str] = frozenset(),
    patience: float = 0.3,
) -> Comparison:
    """One for which events of the slots `moving` are on their way."""
    return Comparison(
        world.store,
        world.survey,
        OnItsWay(moving),
        BALANCE,
        parked=parked,
        patience=patience,
    )


async def found(comparison: Comparison, slots: range = EVERYTHING) -> dict[str, Difference]:
    differences = [each async for each in comparison.slots(slots)]
    assert len({each.account_id for each in differences}) == len(differences)
    return {each.account_id: each for each in differences}


async def test_what_is_right_is_no_difference(world: Stores) -> None:
    assert not await found(comparison(world))
    await world.live(*accounts(40, 3))
    compared = comparison(world)
    assert not await found(compared)
    assert (compared.accounts, compared.events, compared.documents) == (40, 120, 40)
    assert compared.lagging == 0


@pytest.mark.parametrize("at_a_time", [10_000, 3])
async def test_all_damage_is_named_and_nothing_written(
    world: Stores, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr("pipeline.operations.repair.compare.MOST_DOUBTS", at_a_time)
    histories = accounts(40, 3)
    await world.live(*histories)
    ids = [events[0]["account_id"] for events in histories]
    ghosts = [*(str(ULID()) for _ in range(7)), *STRANGE]
    for kind, account_id in zip(CHANGES * 2, ids, strict=False):
        await world.hand.do(kind, account_id)
    for number, account_id in enumerate(ghosts):
        await world.hand.do(GHOSTS[number % 3], account_id)
    before = await world.stamps()

    differences = await found(comparison(world))
    wanted = {
        **{
            each: "missing" if kind == "delete" else "differs"
            for kind, each in zip(CHANGES * 2, ids, strict=False)
        },
        **dict.fromkeys(ghosts, "extra"),
    }
    assert {each.account_id: each.what for each in differences.values()} == wanted
    for partition in range(3):
        part = await found(comparison(world), slots_of(partition, 3))
        assert part.keys() == {e for e in wanted if partition_of(slot_of(e), 3) == partition}
    these = comparison(world).these([*ids, *ghosts, "nobody's"])
    assert {each.account_id: each.what async for each in these} == wanted
    assert await world.stamps() == before


async def test_the_fields_that_differ_are_named(world: Stores) -> None:
    histories = dict(zip(("fields", "same", "version up", "junk"), accounts(4, 3), strict=True))
    await world.live(*histories.values())
    for kind, events in histories.items():
        await world.hand.do(kind, events[0]["account_id"])
    differences = await found(comparison(world))

    def fields(kind: str) -> dict[str, tuple[object, object]]:
        return differences[histories[kind][0]["account_id"]].fields

    right: Any = BALANCE.fold_all(histories["fields"])
    assert right is not None
    assert fields("fields") == {
        "owner": ("Mallory", right["owner"]),
        "balance": (10**9, right["balance"]),
    }
    assert fields("same") == {"_version": (4, 3)}
    assert fields("version up")["version"] == (53, 3)
    assert fields("junk")["status"] == (None, "open")


def next_of(events: list[Event]) -> Event:
    return new_event(events[0]["account_id"], len(events) + 1, DEPOSITED, {"money": 5})


async def test_lag_is_no_difference(world: Stores) -> None:
    """It is one when nothing is on its way any more."""
    late, new = accounts(2, 3)
    await world.live(late)
    await append(world.store, [[next_of(late)], new])
    both = [late[0]["account_id"], new[0]["account_id"]]
    slots = sorted(map(slot_of, both))
    compared = comparison(world, moving=range(slots[0], slots[1] + 1))
    assert not await found(compared)
    assert compared.lagging == 2
    differences = await found(comparison(world))
    assert {each: there.what for each, there in differences.items()} == dict(
        zip(both, ("differs", "missing"), strict=True)
    )
    assert differences[both[0]].fields["version"] == (3, 4)
    unaware = Comparison(world.store, world.survey, None, BALANCE, patience=0.3)
    assert await found(unaware) == differences


class Late:
    """The index, into which a worker writes between two looks."""

    def __init__(self, world: Stores, events: list[list[Event]]) -> None:
        self.ids = world.survey.ids
        self._world, self._events, self._table = world, events, world.table()

    async def found(self, ids: list[str]) -> object:
        answer = await self._world.survey.found(ids)
        if self._events:
            await self._world.arrives(self._table, *self._events.pop(0))
        return answer


async def test_documents_that_go_on_are_no_difference(world: Stores) -> None:
    """Here each is behind whenever one looks, and a damaged one comes right by its next event."""
    histories = accounts(3, 8)
    await world.live(*(events[:3] for events in histories))
    await world.hand.do("fields", histories[0][0]["account_id"])
    await world.hand.do("delete", histories[1][0]["account_id"])
    late = Late(world, [[events[n] for events in histories] for n in range(3, 8)])
    compared = Comparison(world.store, late, OnItsWay(range(0)), BALANCE, patience=5)  # type: ignore[arg-type]
    assert not await found(compared)
    assert compared.lagging == 0


async def test_parked_accounts_are_named_as_parked(world: Stores) -> None:
    sick, sound = accounts(2, 4)
    await world.live(sick[:2], sound)
    await append(world.store, [[{**sick[2], "kind": "MoneyPrinted"}]])
    parked = frozenset({sick[0]["account_id"]})
    assert not await found(comparison(world, parked=parked)), "it is what can be folded"
    for events in (sick, sound):
        await world.hand.do("fields", events[0]["account_id"])
    differences = await found(comparison(world, parked=parked))
    assert {each.account_id: each.parked for each in differences.values()} == {
        sick[0]["account_id"]: True,
        sound[0]["account_id"]: False,
    }


async def test_without_an_index_there_is_no_answer(world: Stores) -> None:
    await append(world.store, accounts(1))
    await world.elastic.client.indices.delete(index=world.generation.index)
    with pytest.raises(ProjectionUnavailable):
        await found(comparison(world))
