"""What the write engine relies on in an event store: MongoDB's and the one in memory.

Each test runs on both.
"""

import asyncio
from datetime import datetime, timedelta

import pytest

from pipeline.banking.events import CREATED, DEPOSITED, WITHDRAWN
from pipeline.commands import (
    AggregateNotFound,
    CommandContext,
    CommandService,
    NotBegunYet,
    VersionNotFound,
)
from pipeline.eventstore import AppendResult, KeyTaken, VersionConflict
from pipeline.model.events import new_event
from tests.commands.library import BOOK, Book, Buy
from tests.eventstore.made import account, deposit, outcomes, row
from tests.harness import AnyStore, eventually, rounds


def keyed(key: str) -> CommandContext:
    return CommandContext("c", key, "request")


@pytest.fixture
def store(any_store: AnyStore) -> AnyStore:
    return any_store


async def versions(store: AnyStore, account_id: str) -> list[int]:
    return [event["version"] for event in await store.load(account_id)]


async def test_an_event_comes_back_as_it_was_stored(store: AnyStore) -> None:
    event = deposit(account(1), 1, key="k")
    await store.append(event)
    assert await store.load(account(1)) == [event]
    assert await store.load(account(2)) == []
    assert await store.count() == 1


async def test_a_taken_version_and_a_taken_key_are_told_apart(store: AnyStore) -> None:
    await store.append(deposit(account(1), 1, key="k"))
    with pytest.raises(VersionConflict) as conflict:
        await store.append(deposit(account(1), 1))
    assert (conflict.value.account_id, conflict.value.version) == (account(1), 1)
    with pytest.raises(KeyTaken) as taken:
        await store.append(deposit(account(2), 1, key="k"))
    assert taken.value.key == "k"
    assert await store.count() == 1


async def test_the_same_event_may_be_appended_again(store: AnyStore) -> None:
    event, transfer = deposit(account(1), 1, key="k"), [deposit(account(n), 1) for n in (2, 3)]
    for _ in range(2):
        await store.append(event)
        await store.append(*transfer)
    assert await store.count() == 3


async def test_of_200_appends_of_one_version_one_wins(store: AnyStore) -> None:
    results = await outcomes(*(store.append(deposit(account(1), 1)) for _ in range(200)))
    assert results.count(None) == 1
    assert sum(isinstance(result, VersionConflict) for result in results) == 199
    assert len(await store.load(account(1))) == 1


async def test_each_of_a_group_has_its_own_outcome(store: AnyStore) -> None:
    await store.append(deposit(account(0), 1, key="k"))
    good = [deposit(account(n), 1) for n in range(1, 20)]
    surrogate = new_event(account(30), 1, CREATED, {"owner": "\ud800"})
    results = await outcomes(
        *(store.append(event) for event in good),
        store.append(deposit(account(0), 1)),
        store.append(deposit(account(40), 1, key="k")),
        store.append(surrogate),
        store.append(new_event(account(31), 1, CREATED, {"owner": "x" * 300_000})),
    )
    assert results[:19] == [None] * 19
    kinds = [VersionConflict, KeyTaken, UnicodeEncodeError, ValueError]
    assert [type(result) for result in results[19:]] == kinds
    assert await store.count() == 20


async def test_a_cancelled_caller_does_not_break_the_group(store: AnyStore) -> None:
    tasks = [asyncio.create_task(store.append(deposit(account(n), 1))) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await outcomes(*tasks)
    assert results[1::2] == [None] * 25
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert all([await store.load(account(n)) for n in range(1, 50, 2)])
    await store.append(deposit(account(100), 1))


async def test_several_events_are_stored_together_or_not_at_all(store: AnyStore) -> None:
    await store.append(deposit(account(1), 1))
    await store.append(deposit(account(1), 2), deposit(account(2), 1))
    with pytest.raises(VersionConflict) as conflict:
        await store.append(deposit(account(1), 3), deposit(account(2), 1))
    assert conflict.value.account_id == account(2)
    with pytest.raises(VersionConflict):
        await store.append(deposit(account(1), 2), deposit(account(2), 2))
    assert await versions(store, account(1)) == [1, 2]
    assert await versions(store, account(2)) == [1]


async def test_a_transfer_that_is_refused_takes_no_other_along(store: AnyStore) -> None:
    await store.append(deposit(account(1), 1, "taken"))
    pairs = [[deposit(account(10 + n), 1), deposit(account(50 + n), 1)] for n in range(20)]
    pairs[3][1] = deposit(account(1), 1)
    pairs[11][0] = deposit(account(31), 1, "taken")
    told = await outcomes(*(store.append(*pair) for pair in pairs))
    assert isinstance(told[3], VersionConflict)
    assert told[3].account_id == account(1)
    assert isinstance(told[11], KeyTaken)
    assert [each for n, each in enumerate(told) if n not in (3, 11)] == [None] * 18
    assert await store.count() == 1 + 2 * 18
    # Sent again, as by one who never heard of it, all are what they are.
    again = await outcomes(*(store.append(*pair) for pair in pairs))
    assert list(map(type, again)) == list(map(type, told))
    assert await store.count() == 1 + 2 * 18


async def test_racing_transfers_never_land_by_half(store: AnyStore) -> None:
    """Transfers round a ring of accounts, against single events on the same accounts."""
    size, each = 4, rounds(4, 30)
    for n in range(size):
        await store.append(deposit(account(n), 1))

    async def transfer(source: int) -> None:
        target = (source + 1) % size
        for _ in range(200):
            versions = [len(await store.load(account(n))) + 1 for n in (source, target)]
            kinds = zip((source, target), versions, (WITHDRAWN, DEPOSITED), strict=True)
            try:
                return await store.append(
                    *(new_event(account(n), v, kind, {"money": 1}) for n, v, kind in kinds)
                )
            except VersionConflict:
                continue
        raise AssertionError("never got through")

    async def single(n: int) -> None:
        for _ in range(200):
            try:
                return await store.append(
                    deposit(account(n), len(await store.load(account(n))) + 1)
                )
            except VersionConflict:
                continue
        raise AssertionError("never got through")

    work = [kind(n) for n in range(size) for _ in range(each) for kind in (transfer, single)]
    assert await outcomes(*work) == [None] * len(work)
    loaded = [await store.load(account(n)) for n in range(size)]
    events = [event for found in loaded for event in found]
    for found in loaded:
        assert [event["version"] for event in found] == list(range(1, len(found) + 1))
    assert sum(event["kind"] == WITHDRAWN for event in events) == size * each
    assert len(events) == size + 3 * size * each


async def test_load_is_in_version_order_and_may_begin_later(store: AnyStore) -> None:
    for version in (3, 1, 2, 4):
        await store.append(deposit(account(1), version))
    assert [event["version"] for event in await store.load(account(1))] == [1, 2, 3, 4]
    assert [event["version"] for event in await store.load(account(1), after=2)] == [3, 4]
    assert await store.load(account(1), after=4) == []


async def test_a_row_is_stored_in_order(store: AnyStore) -> None:
    events = row(account(1), 1, 50)
    assert await store.append_row(events) == AppendResult(50)
    assert await store.load(account(1)) == events
    assert await store.append_row([]) == AppendResult(0)


@pytest.mark.parametrize("at", [1, 4, 6])
async def test_nothing_comes_after_a_version_that_was_taken(store: AnyStore, at: int) -> None:
    await store.append(*row(account(1), at, 1))
    number, error = await store.append_row(row(account(1), 1, 6))
    assert number == at - 1
    assert isinstance(error, VersionConflict)
    assert (error.account_id, error.version) == (account(1), at)
    assert await versions(store, account(1)) == list(range(1, at + 1))


@pytest.mark.parametrize("at", [0, 3, 5])
async def test_nothing_comes_after_a_key_that_was_taken(store: AnyStore, at: int) -> None:
    (taken,) = row(account(2), 1, 1)
    taken["idempotency_key"] = "k"
    await store.append(taken)
    events = row(account(1), 1, 6)
    events[at]["idempotency_key"] = "k"
    number, error = await store.append_row(events)
    assert number == at
    assert isinstance(error, KeyTaken)
    assert await versions(store, account(1)) == list(range(1, at + 1))
    assert await store.under_keys(["k", "none"]) == {"k": taken}


@pytest.mark.parametrize("at", [0, 3])
async def test_nothing_comes_after_what_can_not_be_encoded(store: AnyStore, at: int) -> None:
    events = row(account(1), 1, 6)
    events[at]["body"] = {"owner": "\ud800"}
    number, error = await store.append_row(events)
    assert number == at
    assert isinstance(error, UnicodeEncodeError)
    assert await versions(store, account(1)) == list(range(1, at + 1))


async def test_the_same_row_may_be_appended_again(store: AnyStore) -> None:
    events = row(account(1), 1, 9)
    for known in (4, 4, 9, 9):
        assert await store.append_row(events[:known]) == AppendResult(known)
    assert await store.load(account(1)) == events


async def test_each_of_many_rows_has_its_own_outcome(store: AnyStore) -> None:
    """Singles and rows that wait at the same time, every third with a conflict at its third event
    or, if it has but one, at that."""
    sizes = {account(n): 1 + n % 2 * 4 for n in range(60)}
    lost = [a for n, a in enumerate(sizes) if n % 3 == 0]
    for account_id in lost:
        await store.append(*row(account_id, 3 if sizes[account_id] > 1 else 1, 1))
    results = dict(
        zip(
            sizes,
            await asyncio.gather(*(store.append_row(row(a, 1, n)) for a, n in sizes.items())),
            strict=True,
        )
    )
    for account_id, (number, error) in results.items():
        size = sizes[account_id]
        stored = (2 if size > 1 else 0) if account_id in lost else size
        assert number == stored
        assert isinstance(error, VersionConflict if account_id in lost else type(None))
        assert await versions(store, account_id) == list(
            range(1, stored + 1 + (account_id in lost))
        )


# ------------------------------------------------------------------ what is refused leaves nothing


async def test_events_that_refuse_one_another_are_not_stored(store: AnyStore) -> None:
    with pytest.raises(VersionConflict):
        await store.append(deposit(account(1), 1), deposit(account(1), 1))
    with pytest.raises(KeyTaken):
        await store.append(deposit(account(1), 1, "k"), deposit(account(2), 1, "k"))
    assert await store.count() == 0
    await store.append(deposit(account(1), 1, "k"), deposit(account(2), 1))
    assert (await store.under_keys(["k"])).keys() == {"k"}


async def test_what_can_not_be_encoded_takes_all_along(store: AnyStore) -> None:
    surrogate = new_event(account(2), 1, CREATED, {"owner": "\ud800"})
    with pytest.raises(UnicodeEncodeError):
        await store.append(deposit(account(1), 1), surrogate)
    assert await store.count() == 0


# ------------------------------------------------------------------ reading


async def test_nobody_changes_an_event_that_is_stored(store: AnyStore) -> None:
    event = new_event(account(1), 1, CREATED, {"owner": "Ada", "tags": ["a"]})
    await store.append(event)
    event["body"]["tags"].append("b")
    [loaded] = await store.load(account(1))
    assert loaded["body"]["tags"] == ["a"]
    loaded["body"]["tags"].clear()
    [again] = await store.load(account(1))
    assert again["body"]["tags"] == ["a"]


async def test_a_tuple_comes_back_as_a_list(store: AnyStore) -> None:
    await store.append(new_event(account(1), 1, CREATED, {"tags": ("a", "b")}))
    [loaded] = await store.load(account(1))
    assert loaded["body"] == {"tags": ["a", "b"]}


async def test_a_walk_has_all_in_lists_from_a_version_to_another(store: AnyStore) -> None:
    for first in (1, 501, 1001):
        assert await store.append_row(row(account(1), first, 500)) == AppendResult(500)
    lists = [found async for found in store.walk(account(1))]
    assert [len(found) for found in lists] == [1000, 500]
    assert [event for found in lists for event in found] == await store.load(account(1))
    some = [found async for found in store.walk(account(1), after=998, to=1001)]
    assert [event["version"] for found in some for event in found] == [999, 1000, 1001]
    assert [found async for found in store.walk(account(1), after=1500)] == []
    assert [found async for found in store.walk(account(2))] == []


async def test_a_page_goes_over_a_version_that_is_missing(store: AnyStore) -> None:
    for version in (1, 2, 4, 5):
        await store.append(deposit(account(1), version))
    page = await store.page(account(1), after=1, limit=2)
    assert [event["version"] for event in page] == [2, 4]
    assert await store.page(account(1), after=5, limit=2) == []


async def test_what_is_no_aggregates_event_is_not_read(store: AnyStore) -> None:
    await store.append(deposit(account(1), 1))
    await store.append({**deposit(account(1), 2), "slot": 1 + deposit(account(1), 1)["slot"]})
    await store.append(deposit("no/id", 1))
    assert await versions(store, account(1)) == [1]
    assert await store.load("no/id") == []
    assert await store.page("no/id", after=0, limit=5) == []


async def test_the_past_is_as_it_was_at_a_version_and_at_a_time(store: AnyStore) -> None:
    book, start, day = account(1), datetime(2026, 3, 1), timedelta(days=1)
    bought = {"title": "Ulysses", "level": 0}
    events = [
        new_event(book, 1, "CopyBought", bought, schema=1),
        new_event(book, 2, "BookRenamed", {"title": "Dubliners"}, schema=1),
        new_event(book, 3, "BookRenamed", {"title": "Exiles"}, schema=1),
    ]
    for number, event in enumerate(events):
        event["created_at"] = start + number * day
    await store.append_row(events)
    past = CommandService(store, [BOOK]).histories(BOOK)
    for version, title in enumerate(("Ulysses", "Dubliners", "Exiles"), 1):
        assert (await past.at_version(book, version)).state == Book(title, 1)
        at = start + (version - 1) * day + timedelta(hours=1)
        assert (await past.at_time(book, at)).state == Book(title, 1)
    with pytest.raises(VersionNotFound):
        await past.at_version(book, 4)
    with pytest.raises(NotBegunYet):
        await past.at_time(book, start - day)
    with pytest.raises(AggregateNotFound):
        await past.at_time(account(2), start)


async def test_the_last_snapshot_is_found(store: AnyStore) -> None:
    assert await store.snapshots.find(account(1)) is None
    for version in (1, 2):
        snapshot = {"_id": account(1), "version": version, "state": {"books": ["a"]}}
        store.snapshots.keep(snapshot)

        async def kept(wanted: object = snapshot) -> bool:
            return await store.snapshots.find(account(1)) == wanted

        await eventually(kept)


# ------------------------------------------------------------------ the write engine on it


async def test_a_command_service_works_whole(store: AnyStore) -> None:
    """Two of them: what the one has stored, the other is answered from."""
    services = [CommandService(store, [BOOK], cached=cached) for cached in (100, 0)]
    for service in services:
        await service.open()
        await service.watch()
        await service.ping()
        await service.guarded()
    book = (await services[0].create(BOOK, Buy("Ulysses"), CommandContext("c"))).after.id
    number = rounds(40, 400)
    done = await asyncio.gather(
        *(
            services[n % 2].execute(BOOK, book, Buy("Ulysses", 1 + n % 2), keyed(f"k{n // 2}"))
            for n in range(number)
        )
    )
    assert sum(not each.replayed for each in done) == number // 2
    assert [each.after for each in done[::2]] == [each.after for each in done[1::2]]
    stored = await store.load(book)
    assert [event["version"] for event in stored] == [*range(1, len(stored) + 1)]
    assert (await services[1].get(BOOK, book)).state.copies == len(stored)
