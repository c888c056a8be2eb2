"""Checkpoints: only the owner moves one, and only while Elasticsearch has what it wrote before."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import aiohttp
import pytest
from elastic_transport import ConnectionTimeout

from pipeline.agents.source import starting_position
from pipeline.banking.balance import BALANCE
from pipeline.coordination.partitioning import Partitioning
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream, StreamState
from pipeline.messaging.kv import Bucket
from pipeline.model.events import slots_of
from pipeline.search import (
    ConditionalWrite,
    Elastic,
    FoundDocument,
    Generation,
    Stamp,
)
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import checkpoint_of
from pipeline.tables.checkpoints import (
    Checkpoint,
    CheckpointFenced,
    Checkpoints,
    PartitionPosition,
    PositionLost,
)
from pipeline.tables.epochs import owner_of, raise_epoch
from tests.harness import eventually
from tests.names import ALIAS, INDEX

pytestmark = pytest.mark.elasticsearch

GENERATION = Generation(1, "uuid-1", BALANCE)
STREAM = "2026-01-01T00:00:00Z"
NOW = Partitioning(4)


@pytest.fixture
async def elastic(settings: Settings) -> AsyncIterator[Elastic]:
    elastic = Elastic(settings.elasticsearch_url)
    yield elastic
    await elastic.close()


async def one_more(above: int) -> int:
    return above + 1


async def claim(
    checkpoints: Checkpoints,
    partition: int = 0,
    generation: Generation = GENERATION,
    stream: str = STREAM,
) -> Checkpoint:
    return await checkpoints.claim(partition, NOW, generation, stream, one_more)


async def test_a_checkpoint_is_found_again_by_the_next_owner(elastic: Elastic) -> None:
    first = Checkpoints(elastic, "first")
    taken = await claim(first)
    assert (taken.sequence, taken.epoch, taken.owner) == (None, 1, "first")
    assert await first.write({0: PartitionPosition(1, 10, 8)}) == {}
    again = await claim(Checkpoints(elastic, "second"))
    assert (again.sequence, again.applied, again.epoch, again.owner) == (10, 8, 2, "second")


async def test_a_claim_goes_back_only_when_told_so(elastic: Elastic) -> None:
    checkpoints = Checkpoints(elastic, "mine")
    await claim(checkpoints)
    for sequence, back, claimed in ((20, False, 20), (10, False, 20), (10, True, 10)):
        assert (
            await checkpoints.write({0: PartitionPosition(1, sequence, sequence)}, back=back) == {}
        )
        found = (await elastic.mget(ALIAS, ["balance-1-0-of-4"]))["balance-1-0-of-4"]
        assert (found.source["sequence"], found.source["applied"]) == (claimed, claimed)


async def test_partitions_go_together_and_fail_apart(elastic: Elastic) -> None:
    mine, other = Checkpoints(elastic, "mine"), Checkpoints(elastic, "other")
    for partition in range(3):
        await claim(mine, partition)
    await claim(other, 1)
    failed = await mine.write({p: PartitionPosition(1, 10, 10) for p in range(3)})
    assert list(failed) == [1]
    assert isinstance(failed[1], CheckpointFenced)
    assert (await claim(other, 0)).sequence == (await claim(other, 2)).sequence == 10
    assert (await claim(other, 1)).sequence is None, "an owner with an old epoch moves nothing"


async def test_two_that_take_at_once_leave_one_owner(elastic: Elastic) -> None:
    both = [Checkpoints(elastic, name) for name in ("one", "two")]
    await claim(both[0])
    await asyncio.gather(*(claim(each) for each in both), return_exceptions=True)
    written = [
        await each.write({0: PartitionPosition(epoch, 7, 7)})
        for each in both
        for epoch in (1, 2, 3)
    ]
    assert sum(not failed for failed in written) == 1


async def test_a_checkpoint_of_another_index_or_stream_claims_nothing(elastic: Elastic) -> None:
    checkpoints = Checkpoints(elastic, "mine")
    for generation, stream in (
        (Generation(1, "uuid-2", BALANCE), STREAM),
        (GENERATION, "2026-02-02T00:00:00Z"),
        (Generation(2, "uuid-1", BALANCE), STREAM),
    ):
        taken = await claim(checkpoints)
        await checkpoints.write({0: PartitionPosition(taken.epoch, 10, 10)})
        assert (await claim(checkpoints)).sequence == 10
        assert (await claim(checkpoints, 0, generation, stream)).sequence is None


async def test_a_checkpoint_that_went_back_is_lost(elastic: Elastic) -> None:
    """As a crash or a restored snapshot leaves it: the document as it was, written anew."""
    checkpoints = Checkpoints(elastic, "mine")
    taken = await claim(checkpoints)
    await checkpoints.write({0: PartitionPosition(1, 10, 10)})
    await checkpoints.write({0: PartitionPosition(1, 20, 20)})
    assert await checkpoints.verify() == {}
    found = (await elastic.mget(ALIAS, [taken.id]))[taken.id]
    old = asdict(replace(taken, sequence=10, applied=10))
    await elastic.compare_and_set(ALIAS, [ConditionalWrite(taken.id, found.stamp, old)])
    assert isinstance((await checkpoints.verify())[0], PositionLost)
    assert isinstance((await checkpoints.write({0: PartitionPosition(1, 30, 30)}))[0], PositionLost)
    assert (await claim(checkpoints)).sequence == 10


@pytest.mark.parametrize("what", [f"/{INDEX}", f"/{INDEX}/_doc/balance-1-0-of-4"])
async def test_a_deleted_checkpoint_is_lost(
    settings: Settings, elastic: Elastic, what: str
) -> None:
    checkpoints = Checkpoints(elastic, "mine")
    await claim(checkpoints)
    await checkpoints.write({0: PartitionPosition(1, 10, 10)})
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as http,
        http.delete(what) as answer,
    ):
        assert answer.status == 200
    assert isinstance((await checkpoints.verify())[0], PositionLost)
    assert isinstance((await checkpoints.write({0: PartitionPosition(1, 20, 20)}))[0], PositionLost)
    assert (await claim(checkpoints)).sequence is None


async def test_a_late_write_of_an_earlier_take_is_refused(elastic: Elastic) -> None:
    checkpoints = Checkpoints(elastic, "mine")
    before = await claim(checkpoints)
    now = await claim(checkpoints)
    assert isinstance(
        (await checkpoints.write({0: PartitionPosition(before.epoch, 9, 9)}))[0], PositionLost
    )
    assert await checkpoints.write({0: PartitionPosition(now.epoch, 9, 9)}) == {}
    checkpoints.forget(0)
    assert isinstance(
        (await checkpoints.write({0: PartitionPosition(now.epoch, 10, 10)}))[0], PositionLost
    )


async def test_an_answer_that_was_lost_is_no_loss(
    elastic: Elastic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write lands, the client hears of an error: it looks and finds its own."""
    checkpoints = Checkpoints(elastic, "mine")
    await claim(checkpoints)
    request, calls = elastic.client.perform_request, 0

    async def lossy(method: str, path: str, **arguments: Any) -> object:
        nonlocal calls
        answer = await request(method, path, **arguments)
        calls += path.startswith("/_bulk")
        if path.startswith("/_bulk") and calls == 1:
            raise ConnectionTimeout("lost")
        return answer

    monkeypatch.setattr(elastic.client, "perform_request", lossy)
    assert await checkpoints.write({0: PartitionPosition(1, 10, 10)}) == {}
    assert await checkpoints.write({0: PartitionPosition(1, 20, 20)}) == {}
    assert calls == 2


async def test_after_a_restart_of_elasticsearch_nothing_is_claimed(
    own_servers: EmbeddedServers,
) -> None:
    """Documents that were written and not yet saved may be gone, though the checkpoint is not.

    A checkpoint written after the restart claims them: it is taken back, in both generations.
    """
    server = own_servers.servers["elasticsearch"]
    elastic = Elastic(server.url)
    checkpoints = Checkpoints(elastic, "mine")
    live, new = await claim(checkpoints), Generation(2, "uuid-2", BALANCE)
    built = await checkpoints.claim_building(0, NOW, new, STREAM, live.epoch)
    checkpoints.set_cursor(0, new, 20)
    assert await checkpoints.write({0: PartitionPosition(1, 5, 5)}) == {}
    await asyncio.sleep(2.5)  # saved
    checkpoints.set_cursor(0, new, None)
    await server.kill(9)
    await server.wait_dead()
    writing = asyncio.create_task(checkpoints.write({0: PartitionPosition(1, 10, 10)}))
    await asyncio.sleep(0.2)
    assert not writing.done()
    await server.start()
    assert isinstance((await writing)[0], PositionLost)
    found = await checkpoints.read([live.id, built.id])
    assert [(each.sequence, each.cursor) for each in found.values()] == [(5, None), (5, 20)]
    await elastic.close()


async def test_it_is_taken_back_although_its_writer_is_cancelled(
    elastic: Elastic, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(elastic, "mine")
    live = await claim(checkpoints)
    assert await checkpoints.write({0: PartitionPosition(live.epoch, 5, 5)}) == {}
    looking, answer = asyncio.Event(), asyncio.Event()

    async def restarted(_: set[int]) -> dict[int, Exception]:
        looking.set()
        await answer.wait()
        return {0: PositionLost("restarted")}

    monkeypatch.setattr(checkpoints, "_restarted", restarted)
    writing = asyncio.create_task(checkpoints.write({0: PartitionPosition(live.epoch, 10, 10)}))
    await looking.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    answer.set()

    async def is_taken_back() -> bool:
        (found,) = (await checkpoints.read([live.id])).values()
        return found.sequence == 5

    await eventually(is_taken_back)


async def test_epochs_rise_whatever_is_lost(js: JetStream) -> None:
    assert await raise_epoch(js, BALANCE, 3, "one", 0) == 1
    assert await raise_epoch(js, BALANCE, 3, "two", 0) == 2
    assert await raise_epoch(js, BALANCE, 4, "one", 0) == 1
    assert await raise_epoch(js, BALANCE, 3, "two", 40) == 41, "the checkpoint knows better"
    bucket = await js.context.key_value("partitions")
    assert (await bucket.get("3")).value == b'{"epoch":41,"owner":"two"}'
    await bucket.delete("3")
    assert await raise_epoch(js, BALANCE, 3, "two", 41) == 42
    await eventually(lambda: js.context.delete_stream("KV_partitions"))
    assert await raise_epoch(js, BALANCE, 3, "two", 42) == 43


async def test_an_epoch_written_by_hand_keeps_nobody_out(js: JetStream) -> None:
    bucket = Bucket(js, "partitions")
    for partition, epoch in enumerate(("x", 7, -1, 2**53, 2**62, 1.5, True, {})):
        await bucket.put(str(partition), {"epoch": epoch})
        assert await raise_epoch(js, BALANCE, partition, "one", 9) == 10, epoch
        assert await owner_of(js, BALANCE, partition) == "one", epoch


@pytest.mark.parametrize(
    "nonsense",
    [
        {"epoch": "x"},
        {"epoch": 2**62},
        {"epoch": -1},
        {"sequence": []},
        {"cursor": 1.5},
        {"by": "hand"},
    ],
)
def test_nonsense_in_a_checkpoint_claims_nothing(nonsense: dict[str, Any]) -> None:
    source = asdict(checkpoint(5, 5))
    assert checkpoint_of(FoundDocument(1, Stamp(1, 1), source)) == checkpoint(5, 5)
    assert checkpoint_of(FoundDocument(1, Stamp(1, 1), source | nonsense)) is None


def checkpoint(sequence: int | None, applied: int | None) -> Checkpoint:
    return Checkpoint(0, 4, 0, 1, "uuid", STREAM, sequence, applied, 1, None, "me")


@pytest.mark.parametrize(
    ("sequence", "applied", "floor", "first", "last", "start"),
    [
        (None, None, 5, 1, 9, None),  # nothing is claimed
        (5, 5, 5, 1, 9, 5),
        (5, 5, 3, 1, 9, 3),  # the ack did not arrive
        (3, 3, 5, 1, 9, 3),  # the index lost its last second
        (9, 5, 5, 1, 9, 9),  # idle since 5
        (9, 5, 4, 1, 9, 4),
        (5, 5, 5, 7, 9, None),  # 6 has expired
        (5, 5, 5, 6, 9, 5),
        (9, 5, 5, 10, 9, 9),  # all of it has, and held nothing of this partition
        (5, 5, 5, 1, 4, None),  # the stream went back
        (0, 0, 0, 1, 0, 0),
        (0, 0, 0, 1, 9, 0),
    ],
)
def test_where_to_start(
    sequence: int | None, applied: int | None, floor: int, first: int, last: int, start: int | None
) -> None:
    state = StreamState(STREAM, first, last, 0)
    assert starting_position(checkpoint(sequence, applied), floor, state) == start


@pytest.mark.parametrize(
    ("sequence", "applied", "floor", "start"),
    [
        (4, 4, 2, 4),  # taken for the first time: the ack floor is of another time
        (4, 4, 4, 4),
        (4, 4, 7, 4),  # acked by one who believed the old number
        (7, 6, 6, 7),
        (7, 6, 5, 5),  # the ack did not arrive
        (7, 6, 3, None),  # the consumer is gone, and what it had was another partition's
        (3, 3, 3, None),  # below, the partition was another one
        (3, 3, 9, None),
        (None, None, 9, None),
    ],
)
def test_where_to_start_after_a_repartition(
    sequence: int | None, applied: int | None, floor: int, start: int | None
) -> None:
    claim = replace(checkpoint(sequence, applied), at=4)
    assert starting_position(claim, floor, StreamState(STREAM, 1, 9, 0)) == start


async def test_partitions_go_on_where_those_before_them_ended(elastic: Elastic) -> None:
    before, after = Checkpoints(elastic, "before"), Checkpoints(elastic, "after")
    for partition in (0, 1):
        await claim(before, partition)
    await before.write({0: PartitionPosition(1, 97, 97), 1: PartitionPosition(1, 90, 90)})
    now = NOW.followed_by(8, 100, (97, 98, 0, 0))
    taken = [await after.claim(p, now, GENERATION, STREAM, one_more) for p in range(4)]
    assert [each.sequence for each in taken] == [100, 100, None, None]
    assert await after.write({0: PartitionPosition(1, 100, 100)}) == {}
    assert (
        await before.write({0: PartitionPosition(1, 99, 99), 1: PartitionPosition(1, 98, 98)}) == {}
    )
    again = [await after.claim(p, now, GENERATION, STREAM, one_more) for p in range(4)]
    assert [(each.sequence, each.epoch) for each in again] == [(100, 2)] * 4


async def test_a_claim_of_an_earlier_time_with_as_many_partitions_is_fenced(
    elastic: Elastic,
) -> None:
    """4 -> 8 -> 4: who slept through all of it can't speak of the partitions there are now."""
    asleep, awake = Checkpoints(elastic, "asleep"), Checkpoints(elastic, "awake")
    await claim(asleep)
    await asleep.write({0: PartitionPosition(1, 97, 97)})
    eight = NOW.followed_by(8, 100, (97, 0, 0, 0))
    four = eight.followed_by(4, 200, (150, 160, 0, 0, 0, 0, 0, 0))
    assert await asleep.write({0: PartitionPosition(1, 250, 250)}) == {}, "nobody has taken it yet"
    taken = await awake.claim(0, four, GENERATION, STREAM, one_more)
    assert (taken.sequence, taken.epoch) == (None, 2)
    assert isinstance(
        (await asleep.write({0: PartitionPosition(1, 260, 260)}))[0], CheckpointFenced
    )


async def test_who_acquires_a_whole_generation_being_built_has_to_catch_up(
    elastic: Elastic,
) -> None:
    """Elasticsearch may have lost what the stream will deliver again: no swap before that."""
    new = Generation(2, "uuid-2", BALANCE)
    last = slots_of(0, NOW.count).stop
    for owner, cursor in (("first", 0), ("second", last)):
        checkpoints = Checkpoints(elastic, owner)
        live = await claim(checkpoints)
        built = await checkpoints.claim_building(0, NOW, new, STREAM, live.epoch)
        assert built.cursor == cursor
        checkpoints.set_cursor(0, new, None)
        assert await checkpoints.write({0: PartitionPosition(live.epoch, 9, 9)}) == {}
        (found,) = (await checkpoints.read([built.id])).values()
        assert found.cursor is None


async def test_a_doubted_checkpoint_is_not_whole_and_its_owner_notices(elastic: Elastic) -> None:
    new = Generation(2, "uuid-2", BALANCE)
    checkpoints, other = Checkpoints(elastic, "owner"), Checkpoints(elastic, "coordinator")
    built = []
    for partition in range(3):
        live = await claim(checkpoints, partition)
        built.append(await checkpoints.claim_building(partition, NOW, new, STREAM, live.epoch))
    ids = [each.id for each in built]
    positions = {each.partition: PartitionPosition(each.epoch, 9, 9) for each in built}
    for partition in (0, 1):
        checkpoints.set_cursor(partition, new, None)
    assert await checkpoints.write(positions) == {}
    await other.doubt(ids)
    found = await checkpoints.read(ids)
    assert [found[each].cursor for each in ids] == [
        slots_of(0, NOW.count).stop,
        slots_of(1, NOW.count).stop,
        0,
    ]
    failed = await checkpoints.verify()
    assert set(failed) == {0, 1}
    assert all(isinstance(each, PositionLost) for each in failed.values())
    checkpoints.set_cursor(2, new, None)
    again = {each: at._replace(sequence=10, applied=10) for each, at in positions.items()}
    assert set(await checkpoints.write(again)) == {0, 1}


async def test_a_checkpoint_is_doubted_although_its_owner_moves_it(
    elastic: Elastic, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Generation(2, "uuid-2", BALANCE)
    checkpoints, other = Checkpoints(elastic, "owner"), Checkpoints(elastic, "coordinator")
    live = await claim(checkpoints)
    built = await checkpoints.claim_building(0, NOW, new, STREAM, live.epoch)
    checkpoints.set_cursor(0, new, None)
    assert await checkpoints.write({0: PartitionPosition(live.epoch, 9, 9)}) == {}
    mget, moves = elastic.mget, iter((10, 11))

    async def read_and_moved(alias: str, ids: Sequence[str]) -> dict[str, FoundDocument]:
        found = await mget(alias, ids)
        if (sequence := next(moves, None)) is not None:
            moved = PartitionPosition(live.epoch, sequence, sequence)
            assert await checkpoints.write({0: moved}) == {}
        return found

    monkeypatch.setattr(elastic, "mget", read_and_moved)
    await other.doubt([built.id])
    (found,) = (await other.read([built.id])).values()
    assert (found.sequence, found.cursor) == (11, slots_of(0, NOW.count).stop)
