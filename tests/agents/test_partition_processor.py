"""The partition processor against a real stream, store and index: the projection ends exact,
whatever is done to any of them."""

import asyncio
import random
import time

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.coordination.partitioning import ensure_log
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging.stream_reader import read
from pipeline.model.events import encode, new_event, partition_of
from pipeline.operations.trace.written import SeenBatch, WrittenBatches
from pipeline.tables.checkpoints import CheckpointFenced, PartitionPosition
from tests.agents.world import World, in_order, more, started, world_on
from tests.bank import (
    PARTITIONS,
    Batch,
    StreamSource,
    accounts,
    append,
    documents,
    publish,
    publish_markers,
)
from tests.harness import eventually, rounds
from tests.names import STREAM, subject

pytestmark = pytest.mark.elasticsearch


async def test_events_become_documents_and_are_acked(world: World) -> None:
    runner = await world.start()
    await world.happen(accounts(40, 5))
    await world.settled()
    assert runner.counters.applied == 200
    assert runner.counters.healed == runner.counters.repaired == 0


async def test_who_listens_learns_when_each_message_was_written(world: World) -> None:
    written = WrittenBatches()
    await written.listen(world.js, BALANCE)
    await world.start()
    began = time.time()
    await world.happen(accounts(10, 5))
    await world.settled()
    messages = await read(world.js, STREAM, {"seq": 1, "next_by_subj": ">", "batch": 100})

    def seen() -> list[SeenBatch | None]:
        return [written.of(int(m.subject.rpartition(".")[2]), m.sequence) for m in messages]

    await eventually(lambda: all(seen()))
    for each in seen():
        assert each is not None
        assert began - 1 < each.batch.delivered <= each.batch.written <= each.seen + 1


async def test_what_was_stored_before_the_first_start_is_there(world: World) -> None:
    await world.happen(accounts(20, 4), published=False)
    runner = await world.start()
    await eventually(world.exact)
    assert runner.counters.backfilled == PARTITIONS
    await world.stop()
    runner = await world.start("second")
    assert runner.counters.backfilled == 0, "that is claimed without any traffic"


async def test_a_worker_goes_on_where_the_one_before_it_stopped(world: World) -> None:
    await world.start("first")
    await world.happen(accounts(20, 4))
    await world.settled()
    await world.stop()
    await world.happen(accounts(20, 4))
    runner = await world.start("second")
    await world.settled()
    assert runner.counters.backfilled == 0
    assert runner.counters.applied == 80
    assert runner.counters.duplicates == 0


async def test_what_was_applied_and_not_acked_comes_again(world: World) -> None:
    await world.start("first")
    world.source.acks = False
    await world.happen(accounts(20, 4))
    await eventually(world.exact)
    await world.stop()
    runner = await world.start("second")
    await world.settled()
    # An account whose whole history comes in one batch is folded anew, then refused as known.
    assert runner.counters.applied + runner.counters.duplicates == 80
    assert runner.counters.documents == 0
    assert runner.counters.backfilled == 0


async def test_any_stop_under_load_ends_exact(world: World) -> None:
    histories = accounts(50, 2)
    await world.start("0")
    await world.happen(histories)
    for number in range(rounds(4, 20)):
        added = more(histories)
        await append(world.store, added)
        publishing = asyncio.create_task(publish(world.js, in_order(added)))
        await asyncio.sleep(random.uniform(0, 0.3))
        await world.stop()
        await world.start(str(number + 1))
        await publishing
    await world.settled()


@pytest.mark.parametrize("what", ["drop", "repeat", "shuffle"])
async def test_a_bad_bridge_does_no_harm(world: World, what: str) -> None:
    """Some messages of each delivery skipped, repeated or out of order."""
    rng = random.Random(1)

    def tamper(messages: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        match what:
            case "drop":
                return [m for m in messages if rng.random() < 0.8]
            case "repeat":
                return sorted([*messages, *rng.choices(messages, k=5)])
            case _:
                return rng.sample(messages, len(messages))

    runner = await world.start()
    world.source.tamper = tamper
    histories = accounts(30, 4)
    await world.happen(histories)
    await eventually(world.acked)
    world.source.tamper = list
    added = more(histories, 1)
    await append(world.store, added)
    await publish(world.js, in_order(added))
    await world.settled()
    counters = runner.counters
    match what:
        case "drop":
            assert counters.gaps > 0
        case "repeat":
            assert counters.duplicates > 0
        case _:
            assert counters.reordered + counters.gaps > 0


async def test_a_marker_synchronises_before_what_follows_it(world: World) -> None:
    runner = await world.start()
    before = runner.counters
    await world.happen(accounts(10, 3))
    await world.settled()
    backfilled = before.backfilled
    await world.happen(accounts(10, 3), published=False)
    await publish_markers(world.js)
    await world.settled()
    assert before.backfilled == backfilled + PARTITIONS


async def test_markers_that_come_together_synchronise_once(world: World) -> None:
    await world.happen(accounts(10, 3), published=False)
    for _ in range(20):
        await publish_markers(world.js)
    runner = await world.start()
    await world.settled()
    assert runner.counters.backfilled <= 3 * PARTITIONS


async def test_an_event_of_another_partition_is_passed_over(world: World) -> None:
    """Its owner may not have come so far, and would take it for the next one."""
    runner = await world.start()
    histories = accounts(4, 2)
    await world.happen(histories)
    await world.settled()
    following = [new_event(e[0]["account_id"], 3, DEPOSITED, {"money": 1}) for e in histories]
    for event in following:
        astray = (partition_of(event["slot"], PARTITIONS) + 1) % PARTITIONS
        await world.js.context.publish(subject(astray), encode(event))
    await eventually(lambda: runner.counters.unreadable == len(following))
    await world.settled()


async def test_a_deleted_index_is_made_anew_and_filled(world: World) -> None:
    await world.start()
    await world.happen(accounts(30, 4))
    await world.settled()
    await world.curl("DELETE", "/balance-1")
    await eventually(world.exact)
    await world.happen(accounts(5, 4))
    await world.settled()


async def test_an_index_made_by_hand_is_adopted_and_filled(world: World) -> None:
    await world.start()
    await world.happen(accounts(30, 4))
    await world.settled()
    await world.curl("DELETE", "/balance-1")
    await world.curl("PUT", "/balance", {"mappings": {"dynamic": True}})
    await eventually(world.exact)
    await world.happen(accounts(5, 4))
    await world.settled()


async def test_a_deleted_index_under_load_ends_exact(world: World) -> None:
    await world.start()
    histories = accounts(40, 2)
    await world.happen(histories)
    for _ in range(rounds(3, 10)):
        added = more(histories, 5)
        await append(world.store, added)
        publishing = asyncio.create_task(publish(world.js, in_order(added)))
        await asyncio.sleep(random.uniform(0, 0.1))
        alias = await eventually(lambda: live_index(world))
        await world.curl("DELETE", f"/{alias}")
        await publishing
    await world.settled()


async def live_index(world: World) -> str | None:
    live = await world.runner.context.generations.live()
    return live.index if live else None


async def test_deleted_checkpoints_are_made_anew(world: World) -> None:
    runner = await world.start()
    await world.happen(accounts(10, 3))
    await world.settled()
    reacquired = runner.counters.reacquired
    await world.curl("DELETE", "/bank-checkpoints")
    await eventually(lambda: runner.counters.reacquired >= reacquired + PARTITIONS)
    await world.happen(accounts(10, 3))
    await world.settled()


async def test_a_purged_stream_heals_without_traffic(world: World) -> None:
    """Events in the store that nobody will ever deliver, of accounts never touched again."""
    runner = await world.start()
    await world.happen(accounts(10, 3))
    await world.settled()
    await world.source.fall_silent()  # what is published now is not read
    await world.happen(accounts(30, 3))
    await world.js.api(f"STREAM.PURGE.{STREAM}")
    await eventually(world.exact)
    assert runner.counters.backfilled > 0
    await world.happen(accounts(10, 3))
    await world.settled()


async def test_a_purge_while_no_worker_runs_heals(world: World) -> None:
    await world.start("first")
    await world.happen(accounts(10, 3))
    await world.settled()
    await world.stop()
    await world.happen(accounts(30, 3))
    await world.js.api(f"STREAM.PURGE.{STREAM}")
    await world.start("second")
    await eventually(world.exact)


async def test_a_stream_made_anew_heals_without_traffic(world: World) -> None:
    await world.start()
    await world.happen(accounts(10, 3))
    await world.settled()
    await world.happen(accounts(30, 3), published=False)
    await world.js.api(f"STREAM.DELETE.{STREAM}")
    await asyncio.sleep(1)
    await ensure_log(world.js, world.settings)
    await eventually(world.exact)
    await world.happen(accounts(10, 3))
    await world.settled()


async def test_an_idle_partition_is_not_harmed_by_what_expires(world: World) -> None:
    """Its position moves on with the stream, so no message of others is missed there."""
    runner = await world.start()
    (events,) = accounts(1, 3)
    await world.happen([events])
    await world.settled()
    state = await world.js.state(STREAM)
    assert state is not None

    def moved_up() -> bool:
        taken = [processor.owned for processor in runner.processors.values()]
        return all(each is not None and each.position == state.last for each in taken)

    await eventually(moved_up)
    backfilled = runner.counters.backfilled
    await world.js.api(f"STREAM.PURGE.{STREAM}")
    await runner.inspect()
    await world.stop()
    runner = await world.start("second")
    assert runner.counters.backfilled == 0
    assert backfilled == PARTITIONS


async def test_a_second_owner_fences_the_first(world: World) -> None:
    first = await world.start("first", watch_seconds=3600)
    await world.happen(accounts(10, 3))
    await world.settled()
    second_source = StreamSource(world.js, world.floors)
    second = world.worker(second_source, "second")
    second_source.runner = second
    async with second:
        before = {p: a.owned for p, a in first.processors.items() if a.owned}
        for partition in range(PARTITIONS):
            second.acquire(partition)
        await eventually(lambda: len(started(second)) == PARTITIONS)
        new = {
            p: PartitionPosition(t.epoch, t.position + 1, t.applied + 1) for p, t in before.items()
        }
        failed = await first.context.checkpoints.write(new)
        assert set(failed) == set(range(PARTITIONS))
        assert {type(error) for error in failed.values()} == {CheckpointFenced}
        for partition in range(PARTITIONS):
            await first.release(partition)
        await world.happen(accounts(10, 3))
        await eventually(world.exact)
    await second_source.close()


async def test_only_what_is_applied_may_be_acked(world: World) -> None:
    runner = await world.start()
    await world.happen(accounts(10, 3))
    await world.settled()
    applied = {p: a.owned.applied for p, a in runner.processors.items() if a.owned}
    ahead = {partition: sequence + 1 for partition, sequence in applied.items()}
    assert await runner.checkpoint(ahead) == set()
    assert await runner.checkpoint(applied) == set(applied)
    assert await runner.checkpoint({99: 1}) == set()


async def test_a_stale_delivery_is_thrown_away(world: World) -> None:
    runner = await world.start()
    (events,) = accounts(1, 3)
    processor = runner.processors[0]
    stale = Batch(0, processor.acquisition - 1, 0, 99, [(99, b"{}")], asyncio.Queue())
    await runner.offer(stale)
    hole = Batch(0, processor.acquisition, 50, 99, [(99, b"{}")], asyncio.Queue())
    reacquired = runner.counters.reacquired
    await runner.offer(hole)
    await eventually(lambda: runner.counters.reacquired > reacquired)
    assert stale.finished.empty()
    assert hole.finished.empty()
    await world.happen([events])
    await world.settled()
    assert list(await documents(world.settings.elasticsearch_url)) == [events[0]["account_id"]]


async def test_damage_by_hand_under_live_events_heals(world: World) -> None:
    await world.start()
    histories = accounts(30, 3)
    await world.happen(histories)
    await world.settled()
    for events in histories[:10]:
        await world.curl("DELETE", f"/balance-1/_doc/{events[0]['account_id']}")
    for events in histories[10:20]:
        junk = {"id": "x", "balance": 1}
        await world.curl("PUT", f"/balance-1/_doc/{events[0]['account_id']}", junk)
    added = more(histories, 1)
    await append(world.store, added)
    await publish(world.js, in_order(added))
    await world.settled()
    assert world.runner.counters.repaired > 0


async def test_elasticsearch_killed_under_load_ends_exact(own_servers: EmbeddedServers) -> None:
    """What it had not saved yet is applied again, touched or not."""
    world = await world_on(own_servers.settings)
    server = own_servers.servers["elasticsearch"]
    await world.start()
    histories = accounts(60, 2)
    await world.happen(histories)
    for _ in range(rounds(4, 20)):
        new = accounts(40, 2)
        await append(world.store, new)
        publishing = asyncio.create_task(publish(world.js, in_order(new)))
        await asyncio.sleep(random.uniform(0, 0.5))
        await server.kill(9)
        await server.wait_dead()
        await server.start()
        await publishing
    await world.settled()
    await world.stop()
    await world.js.close()
    await world.store.close()


async def test_an_idle_crash_of_elasticsearch_heals_without_traffic(
    own_servers: EmbeddedServers,
) -> None:
    world = await world_on(own_servers.settings)
    server = own_servers.servers["elasticsearch"]
    await world.start()
    await world.happen(accounts(60, 2))
    await world.settled()
    await server.kill(9)
    await server.wait_dead()
    await server.start()
    await eventually(world.exact)
    await world.stop()
    await world.js.close()
    await world.store.close()


async def test_the_document_is_the_fold(world: World) -> None:
    await world.start()
    (events,) = accounts(1, 6)
    await world.happen([events])
    await world.settled()
    found = await documents(world.settings.elasticsearch_url)
    (document,) = found.values()
    assert document == BALANCE.fold_all(events)
