"""The chains of accounts: made by commands, recomputed by an outsider, and broken by hand."""

import asyncio
import json
from hashlib import sha256
from typing import Any

import pytest
from pymongo.collection import Collection

from api.accounts.app import create_app
from api.accounts.service import AccountService
from pipeline.banking.commands import Deposit, Freeze, Unfreeze, Withdraw
from pipeline.banking.events import CREATED, DEPOSITED, FROZEN
from pipeline.commands import CommandContext
from pipeline.eventstore import EventStore
from pipeline.model.chain import NOTHING, digest, hash_of, link
from pipeline.model.events import SLOTS, Event, new_event, rfc3339
from pipeline.operations.checker.ledger import Ledger
from pipeline.support.settings import Settings
from tests.accounts import account_service
from tests.services import serving

ANN = "01J00000000000000000000ANN"
CONTEXT = CommandContext("c")

Events = Collection[dict[str, Any]]


async def opened(store: EventStore, **options: Any) -> AccountService:
    service = account_service(store, **options)
    await service.open()
    return service


async def faults(store: EventStore) -> list[str]:
    """What the checker says of the chains."""
    ledger = Ledger()
    async for _ in ledger.walk(store.replay(range(SLOTS))):
        pass
    return ledger.chain.examples


async def five(service: AccountService) -> str:
    """An account with five events."""
    account = (await service.create("Ann", 100, CONTEXT)).after.id
    for money in range(1, 5):
        await service.execute(account, Deposit(money), CONTEXT)
    return account


def outsiders_hash(event: dict[str, Any]) -> str:
    """As docs/events.md says, by the standard library alone."""
    content = {name: value for name, value in event.items() if name != "hash"}
    if "encrypted" in event:
        content.pop("request", None)
        hidden = event["encrypted"]["fields"]
        content["body"] = {n: value for n, value in event["body"].items() if n not in hidden}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


async def test_an_outsider_recomputes_the_chain_of_every_kind_of_command(
    settings: Settings,
) -> None:
    async with serving(create_app(settings)) as http:

        async def post(path: str, **body: Any) -> dict[str, Any]:
            headers = {"Idempotency-Key": f"{path}-{len(str(body))}"}
            async with http.post(path, json=body, headers=headers) as answer:
                assert answer.status in (200, 201), await answer.text()
                return dict(await answer.json())

        ann = (await post("/create", owner='Zoë "🦌" \\ /é', money=100))["id"]
        bob = (await post("/create", owner="Bob", money=0))["id"]
        await post("/deposit", id=ann, money=5, reference="R/1", description="née ñ")
        await post("/transfer", **{"from": ann, "to": bob, "money": 105})
        await post("/withdraw", id=bob, money=1)
        await post("/freeze", id=ann, reason="why")
        await post("/unfreeze", id=ann)
        await post("/close", id=ann)
        async with http.patch(f"/{bob}", json={"owner": "Bo"}) as answer:
            assert answer.status == 200
        for account, number in ((ann, 6), (bob, 4)):
            async with http.get(f"/{account}/events") as answer:
                found = (await answer.json())["data"]
            assert len(found) == number
            before = "0" * 64
            for event in found:
                assert event["previous"] == before
                before = event["hash"]
                assert before == outsiders_hash(event)


async def test_a_chain_goes_on_through_batches_conflicts_restarts_and_transfers(
    store: EventStore,
) -> None:
    services = [await opened(store), await opened(store), await opened(store, cached=0)]
    ann, bob = [(await services[0].create("A", 1000, CONTEXT)).after.id for _ in range(2)]
    await asyncio.gather(
        *(
            each.execute(account, Deposit(1), CommandContext("c", f"{n % 20}", "r"))
            if n % 3
            else each.transfer(ann, bob, 1, CONTEXT)
            for n, (each, account) in enumerate(
                [(each, account) for each in services for account in (ann, bob)] * 15
            )
        ),
        return_exceptions=True,
    )
    again = await opened(store)
    for _ in range(120):  # past a snapshot
        await again.execute(ann, Deposit(1), CONTEXT)
    await store.snapshots.close()
    fresh = await opened(store)
    await fresh.execute(ann, Deposit(1), CONTEXT)
    assert len(await store.load(ann)) > 120
    assert await faults(store) == []


async def test_an_old_bank_goes_on_and_its_chain_begins_with_the_first_new_event(
    store: EventStore, events: Events
) -> None:
    first = new_event(ANN, 1, CREATED, {"owner": "Ann", "money": 5})
    second = new_event(ANN, 2, FROZEN, {})
    second["schema"] = 1  # an upcaster changes this one's body
    await store.append(first)
    await store.append(second)
    service = await opened(store)
    await service.execute(ANN, Unfreeze(), CONTEXT)
    await service.execute(ANN, Deposit(1), CONTEXT)
    stored = list(events.find().sort("version", 1))
    assert "hash" not in stored[1]
    plain = {**stored[1], "created_at": rfc3339(stored[1]["created_at"])}
    assert stored[2]["previous"] == outsiders_hash(plain)
    assert await faults(store) == []
    events.update_one({"version": 2}, {"$set": {"correlation_id": "another"}})
    [fault] = await faults(store)
    assert f"account {ANN}, version 3: it does not follow" in fault


async def test_the_first_step_of_an_upgrade_begins_no_chain_and_goes_on_with_begun_ones(
    store: EventStore,
) -> None:
    off, on = await opened(store, begin_chains=False), await opened(store)
    one, two = await five(off), await five(on)
    ids = one, two
    assert [("hash" in (await store.load(each))[-1]) for each in ids] == [False, True]
    for each in ids:
        await off.transfer(each, ids[each == one], 1, CONTEXT)
    assert [("hash" in (await store.load(each))[-1]) for each in ids] == [False, True]
    await on.execute(one, Deposit(1), CONTEXT)
    await off.execute(one, Deposit(1), CONTEXT)
    assert ["hash" in event for event in await store.load(one)][-3:] == [False, True, True]
    assert await faults(store) == []


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {"body.money": 7},
        {"created_at": None},
        {"actor": {"key": "0" * 16, "role": "operator"}},
        {"reference": "another"},
        {"correlation_id": "another"},
        {"previous": "1" * 64},
        {"hash": 5},
        {"note": {"added": [1.5, b"x"]}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_edited_event_is_told(
    store: EventStore, events: Events, version: int, change: dict[str, Any]
) -> None:
    account = await five(await opened(store))
    events.update_one({"version": version}, {"$set": change})
    assert (await faults(store))[0].startswith(f"account {account}, version {version}: ")


async def test_an_event_edited_with_a_new_hash_of_its_own_is_told_by_the_next_one(
    store: EventStore, events: Events
) -> None:
    account = await five(await opened(store))
    forged = events.find_one({"version": 3})
    assert forged is not None
    forged["body"]["money"] = 9
    events.replace_one({"version": 3}, {**forged, "hash": digest(forged)})
    [fault] = await faults(store)
    assert fault.startswith(f"account {account}, version 4: it does not follow")


@pytest.mark.parametrize("removed", [1, 2, 3, 4])
async def test_a_removed_event_is_told_though_the_versions_are_renumbered(
    store: EventStore, events: Events, removed: int
) -> None:
    account = await five(await opened(store))
    events.delete_one({"version": removed})
    for version in range(removed + 1, 6):
        events.update_one({"version": version}, {"$set": {"version": version - 1}})
    assert f"account {account}, version {removed}: " in (await faults(store))[0]


async def test_an_inserted_event_is_told(store: EventStore, events: Events) -> None:
    service = await opened(store)
    account = await five(service)
    for version in range(5, 2, -1):
        events.update_one({"version": version}, {"$set": {"version": version + 1}})
    await store.append(new_event(account, 3, DEPOSITED, {"money": 50}))
    assert f"account {account}, version 3: it has no hash" in (await faults(store))[0]
    events.delete_one({"version": 3})
    for version in range(4, 7):
        events.update_one({"version": version}, {"$set": {"version": version - 1}})
    assert await faults(store) == []
    await store.append(new_event(account, 6, DEPOSITED, {"money": 50}))  # at the end
    assert f"account {account}, version 6: it has no hash" in (await faults(store))[0]
    events.delete_one({"version": 6})
    copied = new_event(account, 6, DEPOSITED, {"money": 50})
    link(copied, hash_of((await store.load(account))[2]))
    await store.append(copied)
    assert f"account {account}, version 6: it does not follow" in (await faults(store))[0]


async def test_two_swapped_events_and_one_of_another_account_are_told(
    store: EventStore, events: Events
) -> None:
    service = await opened(store)
    account, other = await five(service), await five(service)
    for before, after in ((3, 30), (4, 3), (30, 4)):
        events.update_one({"account_id": account, "version": before}, {"$set": {"version": after}})
    stolen = {"account_id": other, "version": 5}
    [theirs] = events.find({"account_id": account, "version": 5})
    fields = {name: theirs[name] for name in ("body", "hash", "previous", "created_at")}
    events.update_one(stolen, {"$set": fields})
    told = "\n".join(await faults(store))
    assert f"account {account}, version 3: " in told
    assert f"account {other}, version 5: " in told


def test_the_first_event_names_nothing() -> None:
    event: Event = new_event(ANN, 1, CREATED, {"owner": "Ann", "money": 5})
    link(event, NOTHING)
    assert event["previous"] == "0" * 64
    assert event["hash"] == digest(event)


async def test_commands_of_one_batch_are_linked_though_one_is_refused(store: EventStore) -> None:
    service = await opened(store)
    account = (await service.create("Ann", 1, CONTEXT)).after.id
    await asyncio.gather(
        *(
            service.execute(account, command, CONTEXT)
            for command in (Deposit(1), Withdraw(50), Deposit(2), Freeze(), Deposit(3), Unfreeze())
        ),
        return_exceptions=True,
    )
    assert [event["version"] for event in await store.load(account)] == [1, 2, 3, 4, 5]
    assert await faults(store) == []
