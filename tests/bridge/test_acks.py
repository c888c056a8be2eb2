"""Acks count and all is delivered, whatever an earlier owner had sent that comes late."""

from pathlib import Path

from faust.types import TP

from pipeline.messaging import JetStream
from pipeline.support.settings import Settings
from tests.bridge.support import PARTITIONS, TOPIC, Reader, publish, running
from tests.harness import eventually

ALL = frozenset(range(PARTITIONS))


async def counts(js: JetStream, partition: int) -> tuple[int, int, int]:
    """The consumer's numbers: last delivered, acked without a gap, and how many are not acked.

    The numbers begin at 1 with every take of the partition.
    """
    info = await js.api(f"CONSUMER.INFO.{TOPIC}.{TOPIC}-{partition}")
    return (
        info["delivered"]["consumer_seq"],
        info["ack_floor"]["consumer_seq"],
        info["num_ack_pending"],
    )


async def all_acked(js: JetStream) -> bool:
    found = [await counts(js, partition) for partition in ALL]
    return all(delivered == acked and not pending for delivered, acked, pending in found)


async def test_acks_count_after_a_read_that_was_begun_anew(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    """What is out then comes again under a new number, and is acked by that one."""
    async with running(Reader(settings.nats_url, "one", scratch), ALL) as reader:
        await publish(js, range(400))
        await reader.has(400)
        await eventually(lambda: all_acked(js))
        reader.gate.clear()
        await publish(js, range(400, 440))
        feeds = reader.consumer.feeds.values()
        await eventually(lambda: all(feed.out for feed in feeds))
        for feed in feeds:
            await feed.resume()
        await eventually(lambda: _delivered(js, 10))
        reader.gate.set()
        await reader.has(440)
        await publish(js, range(440, 460))
        await reader.has(460)
        await eventually(lambda: all_acked(js))
    assert sorted(number for _, number in reader.read) == list(range(460))


async def test_acks_count_after_a_late_one_of_the_owner_before(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    """The server takes an ack from anybody, and goes by its number, which was another's count."""
    old, new = (Reader(settings.nats_url, name, scratch) for name in ("old", "new"))
    async with running(old, ALL):
        await publish(js, range(400))
        await old.has(400)
        await eventually(lambda: all_acked(js))
        old.gate.clear()
        await publish(js, range(400, 404))
        feeds = {p: old.consumer.feeds[TP(TOPIC, p)] for p in ALL}
        await eventually(lambda: all(feed.out for feed in feeds.values()))
        late = [feed.out[-1].reply for feed in feeds.values()]
        old.assignment.mine.clear()
        new.gate.clear()
        async with running(new, ALL):
            await eventually(lambda: _delivered(js, 1))
            for reply in late:
                await js.nc.publish(reply, b"+ACK")
            new.gate.set()
            await publish(js, range(404, 424))
            await new.has(24)
            await eventually(lambda: all_acked(js))
        assert sorted(number for _, number in new.read) == list(range(400, 424))


async def test_a_late_reset_of_the_owner_before_withholds_nothing(
    settings: Settings, js: JetStream, scratch: Path
) -> None:
    reader = Reader(settings.nats_url, "one", scratch, batch=10, in_flight=1)
    async with running(reader, ALL):
        reader.gate.clear()
        await publish(js, range(400))
        await eventually(lambda: all(feed.out for feed in reader.consumer.feeds.values()))
        for partition in ALL:
            await js.api(f"CONSUMER.RESET.{TOPIC}.{TOPIC}-{partition}", {"seq": 401})
        reader.gate.set()
        await reader.has(400)
        await eventually(lambda: all_acked(js))
    assert sorted(number for _, number in reader.read) == list(range(400))


async def _delivered(js: JetStream, number: int) -> bool:
    return all([(await counts(js, partition))[0] == number for partition in ALL])
