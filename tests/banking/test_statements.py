"""The second projection: a document for each event, whatever is delivered, damaged or rebuilt."""

from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from ulid import ULID

from pipeline.agents.rebuild.repair import repair
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, FROZEN, WITHDRAWN
from pipeline.banking.statement import STATEMENT
from pipeline.model.events import SLOTS, Event, new_event, rfc3339
from pipeline.model.projection import Unfoldable
from pipeline.operations.repair.compare import Comparison
from tests.bank import accounts, append, as_delivered, history
from tests.harness import rounds
from tests.stores import Stores, stores

elasticsearch = pytest.mark.elasticsearch
EXAMPLES = hypothesis.settings(
    max_examples=rounds(10, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ACCOUNT = "01J00000000000000000000000"
OTHER = "01J00000000000000000000001"


@pytest.fixture
async def world(settings: Any) -> AsyncIterator[Stores]:
    async with stores(settings, STATEMENT) as opened:
        yield opened


def test_an_entry_for_each_kind_of_event() -> None:
    transfer: Any = {"money": 30, "transfer": {"id": "t", "counterparty": OTHER}}
    events = [
        new_event(ACCOUNT, 1, CREATED, {"owner": "Ada", "money": 100}),
        new_event(ACCOUNT, 2, WITHDRAWN, transfer),
        new_event(ACCOUNT, 3, FROZEN, {"reason": ""}),
    ]
    entries: Any = STATEMENT.replay(events).documents
    assert [(e["id"], e["amount"], e["balance"]) for e in entries] == [
        (f"{ACCOUNT}-1", 100, 100),
        (f"{ACCOUNT}-2", -30, 70),
        (f"{ACCOUNT}-3", 0, 70),
    ]
    assert [(e["counterparty"], e["transfer"]) for e in entries] == [
        (None, None),
        (OTHER, "t"),
        (None, None),
    ]
    for entry, event in zip(entries, events, strict=True):
        assert entry.keys() == STATEMENT.fields
        assert STATEMENT.sound(event["version"], entry)
        assert STATEMENT.account_id(entry["id"]) == entry["account_id"] == ACCOUNT
        assert (entry["kind"], entry["event_id"]) == (event["kind"], event["_id"])
        assert entry["at"] == rfc3339(event["created_at"])


@pytest.mark.parametrize("change", [{"kind": CREATED}, {"kind": "MoneyPrinted"}, {"body": {}}])
def test_what_is_no_next_event_has_no_entry(change: Any) -> None:
    first = STATEMENT.fold(None, history(ACCOUNT, 1)[0])
    event: Any = {**new_event(ACCOUNT, 2, DEPOSITED, {"money": 1}), **change}
    with pytest.raises(Unfoldable) as why:
        STATEMENT.fold(first, event)
    # The same cause has the same words in both projections.
    with pytest.raises(Unfoldable) as of_balance:
        BALANCE.fold(BALANCE.fold(None, history(ACCOUNT, 1)[0]), event)
    assert str(why.value) == str(of_balance.value)


@elasticsearch
@EXAMPLES
@given(data=st.data())
async def test_any_delivery_converges_to_all_entries(world: Stores, data: st.DataObject) -> None:
    """Repeated, reordered, skipped, over a cache of any size, by one worker after another."""
    histories = [history(str(ULID()), data.draw(st.integers(1, 6))) for _ in range(2)]
    everything = [event for events in histories for event in events]
    await append(world.store, histories)
    table = world.table(capacity=data.draw(st.sampled_from([1, 100])))
    for batch in data.draw(
        st.lists(st.lists(st.sampled_from(everything), max_size=8), min_size=1, max_size=4)
    ):
        table = world.table() if data.draw(st.booleans()) else table
        await table.apply(as_delivered(batch))
        for event in batch:
            assert await entries(world, event["account_id"], event["version"])
    await table.apply(as_delivered(events[-1] for events in histories))
    wanted = {e["id"]: e for events in histories for e in STATEMENT.replay(events).documents}
    assert await world.survey.documents(list(wanted)) == wanted


async def entries(world: Stores, account_id: str, version: int) -> bool:
    """Whether all entries up to that one are there."""
    ids = [f"{account_id}-{each}" for each in range(1, version + 1)]
    return len(await world.survey.documents(ids)) == version


@elasticsearch
async def test_an_entry_that_lies_is_not_gone_on_from(world: Stores) -> None:
    events = history(str(ULID()), 6)
    account_id = events[0]["account_id"]
    await world.live(events[:3])
    there: Any = await world.hand.found(f"{account_id}-3")
    lies = {**there["_source"], "balance": 10**9, "version": 2}
    await world.hand.put(f"{account_id}-3", lies)
    await append(world.store, [events[3:]])
    await world.table().apply(as_delivered(events[3:]))
    assert await world.exact()


@elasticsearch
async def test_a_predecessor_that_is_gone_is_healed_with_all_before_it(world: Stores) -> None:
    events = history(str(ULID()), 6)
    await world.live(events[:4])
    for version in (2, 4):
        await world.hand.delete(f"{events[0]['account_id']}-{version}")
    await append(world.store, [events[4:]])
    table = world.table()
    await table.apply(as_delivered(events[4:]))
    assert await world.exact()
    assert table.counters.gaps == 1


@elasticsearch
async def test_an_old_entry_that_is_mended_is_not_gone_on_from(world: Stores) -> None:
    events = history(str(ULID()), 5)
    table = await world.live(events[:4])
    await world.hand.do("newer era", f"{events[0]['account_id']}-2")
    await table.documents.restore([STATEMENT.replay(events[:4])])
    assert table.counters.documents == 5
    await world.arrives(table, events[4])
    assert table.counters.healed == 0
    assert await world.exact()


DAMAGE = ("same", "junk", "empty", "newer era", "older era", "huge", "highest", "delete")


@elasticsearch
async def test_damage_is_named_and_mended(world: Stores) -> None:
    histories = accounts(12, 4)
    await world.live(*histories)
    damaged = {}
    for kind, events in zip(DAMAGE, histories, strict=False):
        damaged[f"{events[0]['account_id']}-2"] = kind
    ghosts = [f"{histories[0][0]['account_id']}-5", f"{ULID()}-1", f"{histories[1][0]['_id']}"]
    for document_id, kind in damaged.items():
        await world.hand.do(kind, document_id)
    lies = {"id": "x", "version": 3}
    for each in ghosts:
        await world.hand.put(each, lies)
    stamps = await world.stamps()

    found = [each async for each in comparison(world).slots(range(SLOTS))]
    assert {each.document_id: each.what for each in found} == {
        **{each: "missing" if kind == "delete" else "differs" for each, kind in damaged.items()},
        **dict.fromkeys(ghosts, "extra"),
    }
    assert await world.stamps() == stamps, "nothing is written"
    one = histories[0][0]["account_id"]
    named = [each async for each in comparison(world).these([one])]
    assert [(each.account_id, each.document_id) for each in named] == [(one, f"{one}-2")]

    await repair([each.document_id for each in found], world.store, world.documents())
    assert await world.exact()
    assert [each async for each in comparison(world).slots(range(SLOTS))] == []


@elasticsearch
async def test_a_partition_is_mended_in_parts(
    world: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long account comes in parts; ghosts go; what is right is left alone."""
    monkeypatch.setattr("pipeline.agents.backfill.CHUNK", 3)
    long, short = history(str(ULID()), 40), history(str(ULID()), 2)
    await append(world.store, [long, short])
    await world.hand.put(f"{ULID()}-1", {"version": 1})
    report = await world.mend_partition()
    assert await world.exact()
    assert (report.events, report.accounts, report.written, report.removed) == (42, 2, 42, 1)
    stamps = await world.stamps()
    assert (await world.mend_partition()).written == 0
    assert await world.stamps() == stamps


@elasticsearch
async def test_a_poison_parks_the_account_after_its_last_good_entry(world: Stores) -> None:
    sick: list[Any] = history(str(ULID()), 5)
    sick[2] = {**sick[2], "kind": "MoneyPrinted"}
    good: list[Event] = history(str(ULID()), 5)
    await append(world.store, [sick, good])
    table = world.table()
    await table.apply(as_delivered([*sick, *good]))
    assert await world.exact()
    assert [(each, about["version"]) for each, about in world.lot.items()] == [
        (sick[0]["account_id"], 3)
    ]
    await world.mend_partition()
    assert list(world.lot) == [sick[0]["account_id"]], "it stays parked"


def comparison(world: Stores) -> Comparison:
    return Comparison(world.store, world.survey, None, STATEMENT, patience=0.3)
