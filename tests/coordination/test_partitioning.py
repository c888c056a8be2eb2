"""The number of partitions in force, and what a claim of the partitions before is worth."""

from dataclasses import replace

import orjson
import pytest

from pipeline.coordination.partitioning import Partitioning, ensure_log, partitioning
from pipeline.messaging import JetStream, OutgoingMessage
from pipeline.model.events import SLOTS, partition_of, slots_of
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import Checkpoint, inherited
from tests.names import STREAM, SUBJECT

CREATED = "2026-01-01T00:00:00Z"
FOUR = Partitioning(4)
EIGHT = FOUR.followed_by(8, 100, (97, 98, 0, 99))
SIX = EIGHT.followed_by(6, 200, (0, 150, 198, 0, 0, 110, 120, 130))


async def say(js: JetStream, data: bytes) -> int:
    state = await js.state(STREAM)
    assert state is not None
    return await js.publish_batch([OutgoingMessage(SUBJECT, data)], state.last)


async def test_without_a_stream_nothing_is_in_force_or_made(js: JetStream) -> None:
    assert await partitioning(js) is None
    assert await js.state(STREAM) is None


async def test_a_new_banks_number_is_that_of_the_settings(
    settings: Settings, js: JetStream
) -> None:
    four = settings.model_copy(update={"partitions": 4})
    assert await ensure_log(js, four) == FOUR
    assert await ensure_log(js, settings) == FOUR == await partitioning(js)


async def test_the_last_message_says_the_number(settings: Settings, js: JetStream) -> None:
    await ensure_log(js, settings)
    for now in (replace(EIGHT, at=1, last=(0, 0, 1, 1)), replace(FOUR, at=2), FOUR):
        await say(js, now.message().data)
        assert await partitioning(js) == now


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"8",
        b"[8]",
        b"{}",
        orjson.dumps({"count": 8}),
        orjson.dumps({"count": 0, "last": []}),
        orjson.dumps({"count": 257, "last": []}),
        orjson.dumps({"count": "8", "last": []}),
        orjson.dumps({"count": 8, "at": 99, "last": []}),
        orjson.dumps({"count": 8, "at": 1, "before": 4, "last": [1, 1, 1]}),
        orjson.dumps({"count": 8, "at": 1, "last": [], "more": 1}),
    ],
)
async def test_what_somebody_wrote_wrong_by_hand_says_nothing(
    settings: Settings, js: JetStream, data: bytes
) -> None:
    await ensure_log(js, settings)
    await say(js, data)
    assert await partitioning(js) == Partitioning(settings.partitions)


async def test_a_log_that_lost_the_message_is_told_by_the_metadata(
    settings: Settings, js: JetStream
) -> None:
    await ensure_log(js, settings)
    config = await js.config(STREAM)
    assert config is not None
    for now in (EIGHT, SIX):
        config["metadata"] |= now.metadata()
        await js.api(f"STREAM.UPDATE.{STREAM}", config)
        assert await partitioning(js) == now
    config["metadata"] |= {"partitions": "3"}
    await js.api(f"STREAM.UPDATE.{STREAM}", config)
    assert await partitioning(js) == Partitioning(3), "somebody changed it by hand"


@pytest.mark.parametrize("before", [1, 3, 4, 8, 255, 256])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 256])
def test_sources_are_the_partitions_that_had_the_slots(before: int, count: int) -> None:
    now = Partitioning(count, 10, before, 0, (0,) * before)
    assert set().union(*map(now.sources, range(count))) == set(range(before))
    for partition in range(count):
        had = {partition_of(slot, before) for slot in slots_of(partition, count)}
        assert had == set(now.sources(partition))
    assert sum(len(slots_of(partition, count)) for partition in range(count)) == SLOTS


def test_the_first_partitioning_has_no_sources() -> None:
    assert list(FOUR.sources(0)) == []


def checkpoint(partition: int, of: Partitioning, sequence: int | None) -> Checkpoint:
    return Checkpoint(
        partition, of.count, of.at, 1, "uuid", CREATED, sequence, sequence, 1, None, "me"
    )


def inherits(partition: int, now: Partitioning, *before: Checkpoint | None) -> int | None:
    claim = checkpoint(partition, now, None)
    found = inherited(claim, now, dict(zip(now.sources(partition), before, strict=True)))
    assert found.applied == found.sequence
    assert replace(found, sequence=None, applied=None) == claim
    return found.sequence


@pytest.mark.parametrize(
    ("partition", "sequence", "start"),
    [
        (0, 97, 100),
        (1, 97, 100),  # the other half of the same
        (0, 99, 100),  # it was idle, and moved up
        (0, 300, 100),  # it believed the old number for a while
        (0, 96, None),  # Elasticsearch lost its last second
        (0, None, None),  # it was being backfilled
        (4, 0, 100),  # it never had a message
    ],
)
def test_a_half_begins_where_its_whole_came_to_its_end(
    partition: int, sequence: int | None, start: int | None
) -> None:
    assert inherits(partition, EIGHT, checkpoint(partition // 2, FOUR, sequence)) == start


def test_a_partition_of_several_begins_when_all_of_them_came_to_their_ends() -> None:
    assert list(SIX.sources(1)) == [1, 2]
    one, two = checkpoint(1, EIGHT, 150), checkpoint(2, EIGHT, 198)
    assert inherits(1, SIX, one, two) == 200
    assert inherits(1, SIX, one, replace(two, sequence=197)) is None
    assert inherits(1, SIX, one, None) is None
    assert inherits(1, SIX, None, two) is None


def test_a_claim_of_anything_else_is_not_inherited() -> None:
    good = checkpoint(0, FOUR, 97)
    assert inherits(0, EIGHT, good) == 100
    for other in (
        replace(good, index_uuid="another"),
        replace(good, stream="another"),
        replace(good, partitions=5),
        replace(good, at=50),  # of an earlier time with as many partitions
        replace(good, cursor=7),  # of a generation that is being built
    ):
        assert inherits(0, EIGHT, other) is None


def test_what_is_claimed_already_stays() -> None:
    mine = checkpoint(0, EIGHT, 150)
    assert inherited(mine, EIGHT, {0: checkpoint(0, FOUR, 97)}) == mine


def test_the_first_partitions_inherit_nothing() -> None:
    claim = checkpoint(0, FOUR, None)
    assert inherited(claim, FOUR, {}) == claim
