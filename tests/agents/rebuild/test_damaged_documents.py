"""Documents damaged by hand are mended in place, and live traffic goes on over them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from ulid import ULID

from pipeline.agents.rebuild.repair import repair
from pipeline.banking.events import DEPOSITED
from pipeline.model.events import Event, new_event, partition_of, slot_of
from pipeline.search import GenerationGone
from pipeline.support.settings import Settings
from tests.bank import accounts, append, as_delivered, history
from tests.damage import CHANGES, GHOSTS
from tests.harness import rounds
from tests.stores import Stores, stores

pytestmark = pytest.mark.elasticsearch

STRANGE = ("no account's", "../../balance", "ﬁ/ø?&=#%", " ", "x" * 500)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[Stores]:
    async with stores(settings) as world:
        yield world


def following(events: list[Event]) -> Event:
    return new_event(events[0]["account_id"], len(events) + 1, DEPOSITED, {"money": 5})


async def test_accounts_are_mended_and_their_next_events_arrive(world: Stores) -> None:
    """At workers that knew them before, and at one that did not."""
    histories = {kind: history(str(ULID()), 4) for kind in CHANGES}
    worker = await world.live(*histories.values())
    for kind, events in histories.items():
        await world.hand.do(kind, events[0]["account_id"])
        report = await repair([events[0]["account_id"]], world.store, world.documents())
        assert (report.events, report.accounts, report.written, report.removed) == (4, 1, 1, 0), (
            kind
        )
    assert await world.exact()
    again = await repair(
        [h[0]["account_id"] for h in histories.values()], world.store, world.documents()
    )
    assert (again.accounts, again.written, again.removed) == (len(CHANGES), 0, 0)
    for table in (worker, worker, world.table(), worker):
        for events in histories.values():
            events.append(following(events))
        await world.arrives(table, *(events[-1] for events in histories.values()))
        assert await world.exact()


@pytest.mark.parametrize("cached", [True, False])
async def test_the_next_event_alone_mends_its_account(world: Stores, cached: bool) -> None:
    """Only a document that was forged at its own version is believed, until somebody compares."""
    histories = {kind: history(str(ULID()), 4) for kind in CHANGES if kind != "forged"}
    worker = await world.live(*histories.values())
    for kind, events in histories.items():
        await world.hand.do(kind, events[0]["account_id"])
        events.append(following(events))
    table = worker if cached else world.table()
    await world.arrives(table, *(events[-1] for events in histories.values()))
    assert await world.exact()


async def test_a_repair_outlives_what_a_worker_believed(world: Stores) -> None:
    """It folded an event onto a forged document, which was then mended behind its back."""
    events = history(str(ULID()), 4)
    await world.live(events)
    await world.hand.do("forged", events[0]["account_id"])
    misled = world.table()
    events.append(following(events))
    await world.arrives(misled, events[-1])
    assert not await world.shows(events)
    await repair([events[0]["account_id"]], world.store, world.documents())
    assert await world.shows(events)
    for _ in range(2):
        events.append(following(events))
        await world.arrives(misled, events[-1])
        assert await world.exact()


async def test_a_partition_is_mended_and_no_other(world: Stores) -> None:
    histories = accounts(60, 3)
    worker = await world.live(*histories)
    ids = [events[0]["account_id"] for events in histories]
    for kind, account_id in zip(CHANGES * 2, ids, strict=False):
        await world.hand.do(kind, account_id)
    ghosts = [*(str(ULID()) for _ in GHOSTS * 4), *STRANGE]
    for number, account_id in enumerate(ghosts):
        await world.hand.do(GHOSTS[number % 3], account_id)

    damaged = [*ids[: 2 * len(CHANGES)], *ghosts]
    before = await world.stamps()
    first = await world.mend_partition(0, 3)
    ours = {each for each in [*ids, *ghosts] if partition_of(slot_of(each), 3) == 0}
    after = await world.stamps()
    touched = {each for each in {*before, *after} if before.get(each) != after.get(each)}
    assert touched == {each for each in damaged if each in ours}
    rest = [await world.mend_partition(partition, 3) for partition in (1, 2)]
    assert await world.exact()
    assert sum(each.removed for each in (first, *rest)) == len(ghosts)
    assert sum(each.written for each in (first, *rest)) == 2 * len(CHANGES)
    assert (await world.mend_partition()).written == 0
    more = [following(events) for events in histories]
    await append(world.store, [[event] for event in more])
    await worker.apply(as_delivered(more))
    assert await world.exact()


class Between:
    """The event store, with something that happens as soon as it has answered so many times."""

    def __init__(
        self, world: Stores, then: Callable[[], Awaitable[object]], answers: int = 1
    ) -> None:
        self.replay = world.store.replay
        self._world, self._then, self._left = world, then, answers

    @property
    def happened(self) -> bool:
        return self._left <= 0

    async def load_many(self, account_ids: Collection[str]) -> dict[str, list[Event]]:
        answer = await self._world.store.load_many(account_ids)
        self._left -= 1
        if self._left == 0:
            await self._then()
        return answer


@pytest.mark.parametrize("answers", [1, 2, 3])
async def test_events_that_come_while_accounts_are_mended(world: Stores, answers: int) -> None:
    """They are applied between the mender's looks at the store and its writes."""
    histories = [history(str(ULID()), 6) for _ in CHANGES]
    worker = await world.live(*(events[:4] for events in histories))
    ids = [events[0]["account_id"] for events in histories]
    for kind, account_id in zip(CHANGES, ids, strict=True):
        await world.hand.do(kind, account_id)

    async def come() -> None:
        for version in (4, 5):
            await world.arrives(worker, *(events[version] for events in histories))

    between = Between(world, come, answers)
    await repair(ids, between, world.documents(between))
    assert between.happened
    assert await world.exact()


async def test_an_account_opened_under_a_ghost_stays(world: Stores) -> None:
    events = history(str(ULID()), 3)
    account_id = events[0]["account_id"]
    await world.hand.do("ghost", account_id)

    async def opened() -> None:
        for event in events:
            await world.arrives(world.table(), event)

    between = Between(world, opened)
    assert await world.documents(between).remove([account_id, "nobody's"]) == 0
    assert between.happened
    assert await world.exact()
    await world.hand.do("ghost of the highest version", "nobody's")
    assert await world.documents().remove([account_id, "nobody's"]) == 1
    assert await world.exact()


async def test_an_account_that_is_opened_after_its_ghost_went(world: Stores) -> None:
    """Here a tombstone of any height lies where its document goes."""
    for kind in ("ghost", "huge", "ceiling", "highest"):
        events = history(str(ULID()), 3)
        await world.hand.do(kind, events[0]["account_id"])
        await world.hand.delete(events[0]["account_id"])
        await append(world.store, [events])
        await world.table().apply(as_delivered(events))
    assert await world.exact()


async def test_no_delete_makes_an_index(world: Stores) -> None:
    documents = world.documents()
    await world.live(*accounts(1))
    await world.hand.do("ghost", "nobody's")
    found = await documents.found(["nobody's"])
    await world.elastic.client.indices.delete(index=world.generation.index)
    with pytest.raises(GenerationGone):
        await world.elastic.delete(documents.alias, {"nobody's": found["nobody's"].stamp})
    with pytest.raises(GenerationGone):
        await documents.remove(["nobody's"])
    assert not (await world.elastic.client.indices.get(index="balance*")).body


async def test_an_account_without_a_sound_event_has_no_document(world: Stores) -> None:
    events = history(str(ULID()), 3)
    sick: Any = [{**events[0], "kind": "MoneyPrinted"}, *events[1:]]
    await append(world.store, [sick])
    await world.hand.do("ghost", events[0]["account_id"])
    report = await repair([events[0]["account_id"]], world.store, world.documents())
    assert (report.written, report.removed) == (0, 1)
    assert events[0]["account_id"] in world.lot
    assert await world.exact()


async def test_what_came_while_an_account_was_parked_arrives_when_it_is_mended(
    world: Stores,
) -> None:
    events = history(str(ULID()), 5)
    account_id = events[0]["account_id"]
    worker = await world.live(events[:3])
    await world.lot.park(account_id)

    async def come() -> None:
        for event in events[3:]:
            await world.arrives(worker, event)

    between = Between(world, come)
    await repair([account_id], between, world.documents(between))
    assert worker.counters.waiting == 2
    assert not world.lot
    assert await world.exact()


@hypothesis.settings(
    max_examples=rounds(8, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_any_damage_is_mended(world: Stores, data: st.DataObject) -> None:
    """Whatever hands, workers and menders did before, and in whatever order."""
    histories = [history(str(ULID()), 12) for _ in range(3)]
    shown = [0] * 3
    ids = [events[0]["account_id"] for events in histories] + [str(ULID())]
    tables = [world.table(), world.table(capacity=1)]
    steps = st.sampled_from(("event", "event", "damage", "damage", "repair", "ghost"))
    for step in data.draw(st.lists(steps, max_size=14)):
        number = data.draw(st.integers(0, 2))
        match step:
            case "event" if shown[number] < 10:
                await world.arrives(
                    data.draw(st.sampled_from(tables)), histories[number][shown[number]]
                )
                shown[number] += 1
            case "damage":
                await world.hand.do(data.draw(st.sampled_from(CHANGES)), ids[number])
            case "repair":
                await repair(ids[: number + 1], world.store, world.documents())
            case "ghost":
                await world.hand.do(data.draw(st.sampled_from(GHOSTS)), ids[3])
    await world.mend_partition()
    assert await world.exact()
    for events, count in zip(histories, shown, strict=True):
        await world.arrives(data.draw(st.sampled_from(tables)), events[count])
        assert await world.shows(events[: count + 1])
    assert await world.exact()
