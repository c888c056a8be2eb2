"""The feed: every event at least once and in order, whatever becomes of the log meanwhile."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest

from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore, Place
from pipeline.messaging import JetStream, OutgoingMessage
from pipeline.model.events import Event, encode
from pipeline.model.personal import FORGOTTEN, encrypted
from pipeline.operations.feed.cloud_events import encoded
from pipeline.operations.feed.position import InvalidPosition, Position
from pipeline.operations.feed.reader import Feed, Item, may_follow
from pipeline.operations.feed.subscriptions import Subscriptions
from pipeline.support.settings import Settings
from tests.bank import accounts, append, publish, publish_markers
from tests.names import STREAM, TOKEN_SUBJECT, subject

# ------------------------------------------------------------------ positions

HERE = Position("0123456789ab", 7, "ba9876543210")


@pytest.mark.parametrize(
    "position",
    [
        HERE,
        Position("0", 0),
        Position("0123456789ab", 7, "0", Place(0, "", 0)),
        Position("0123456789ab", 7, "0", Place(1023, "order-66_x", 12)),
    ],
)
def test_a_position_is_a_text_and_back(position: Position) -> None:
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "7", "x.7.0", "0.7", "0.-7.0", "0.7.0.1024.a.1", "0.7.0.1.a", "0.7.0.1.a.b.1", "0.7.0\n"],
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(InvalidPosition):
        Position.parse(text)


# ------------------------------------------------------------------ a bank without roles


class Bank:
    """An event store and a log, written as the roles would."""

    def __init__(self, settings: Settings, js: JetStream, store: EventStore) -> None:
        self.settings, self.js, self.store = settings, js, store
        self.feed = Feed(js, store)

    async def stored(self, *histories: Sequence[Event], forwarded: bool = True) -> list[Event]:
        await append(self.store, histories)
        events = [event for history in histories for event in history]
        if forwarded:
            await publish(self.js, events)
        return events

    async def renewed(self) -> None:
        """A new stream, as a forwarder begins it."""
        await self.js.context.delete_stream(STREAM)
        await ensure_log(self.js, self.settings)
        await publish_markers(self.js)

    async def read(self, after: Position, limit: int = 10, **options: Any) -> list[Item]:
        """All that there is now."""
        return (await self.gone_through(after, limit, **options))[0]

    async def gone_through(
        self, after: Position, limit: int = 10, **options: Any
    ) -> tuple[list[Item], Position]:
        found: list[Item] = []
        while True:
            page = await self.feed.page(after, limit, **options)
            assert len(page.items) <= limit
            found += page.items
            after = page.position
            if not page.more:
                return found, after


@pytest.fixture
async def bank(settings: Settings, js: JetStream, store: EventStore) -> Bank:
    await ensure_log(js, settings)
    await publish_markers(js)
    return Bank(settings, js, store)


def ids(events: Sequence[Event | Item]) -> list[str]:
    return [(each.event if isinstance(each, Item) else each)["_id"] for each in events]


def in_order(items: Sequence[Item]) -> bool:
    """Whether each account's versions come in order, when repeats are dropped."""
    reached: dict[str, int] = {}
    for event in (item.event for item in items):
        account, version = event["account_id"], event["version"]
        if version > reached.get(account, 0) + 1:
            return False
        reached[account] = max(version, reached.get(account, 0))
    return True


async def test_from_the_beginning_all_come_and_then_what_is_new(bank: Bank) -> None:
    made = accounts(5, 5)
    events = await bank.stored(*made)
    found, after = await bank.gone_through(await bank.feed.beginning())
    assert sorted(ids(found)) == sorted(ids(events))
    assert in_order(found)
    news = await bank.stored(*accounts(2))
    found, after = await bank.gone_through(after)
    assert ids(found) == ids(news), "in the order of the log"
    assert not await bank.read(after)
    assert not may_follow(after, await bank.js.state(STREAM))


async def test_what_is_stored_while_the_store_is_read_is_not_left_out(bank: Bank) -> None:
    before = await bank.stored(*accounts(5, 5))
    waiting = await bank.stored(*accounts(1), forwarded=False)
    page = await bank.feed.page(await bank.feed.beginning(), 10)
    early = [*page.items]
    during = await bank.stored(*accounts(5, 5))
    await publish(bank.js, waiting)
    found = [*early, *await bank.read(page.position)]
    assert set(ids(found)) == set(ids([*before, *waiting, *during]))
    assert in_order(found)


async def test_it_goes_on_after_each_event(bank: Bank) -> None:
    await bank.stored(*accounts(3, 4))
    beginning = await bank.feed.beginning()
    await bank.stored(*accounts(2, 3))
    found = await bank.read(beginning)
    for number, item in enumerate(found, 1):
        assert ids(await bank.read(Position.parse(str(item.position)))) == ids(found[number:])


async def test_now_is_after_what_is_there(bank: Bank) -> None:
    await bank.stored(*accounts(3))
    now = await bank.feed.end()
    assert not await bank.read(now)
    assert ids(await bank.read(now)) == []
    news = await bank.stored(*accounts(1))
    assert may_follow(now, await bank.js.state(STREAM))
    assert ids(await bank.read(now)) == ids(news)


async def test_only_what_is_wanted_and_the_position_goes_on(bank: Bank) -> None:
    events = await bank.stored(*accounts(4, 6))
    beginning = await bank.feed.beginning()
    events += await bank.stored(*accounts(4, 6))

    def wanted(event: Event) -> bool:
        return event["kind"] == "AccountCreated"

    expected = [event["_id"] for event in events if wanted(event)]
    for limit in (1, 3, 100):
        found, after = await bank.gone_through(beginning, limit, wanted=wanted)
        assert set(ids(found)) == set(expected)
        assert after.sequence == (await bank.feed.end()).sequence


async def test_personal_fields_are_shown_until_they_are_forgotten(bank: Bank) -> None:
    [event] = accounts(1, 1)[0]
    account, keys = event["account_id"], bank.store.keys
    places = [await bank.feed.end(), await bank.feed.beginning()]
    await bank.stored([encrypted(event, ["owner"], await keys.obtain(account, 0))])

    async def shown() -> list[str]:
        """Of the log, and of the store and the log."""
        found = [item for place in places for item in await bank.read(place)]
        return [item.event["body"]["owner"] for item in found]

    assert await shown() == ["Ada"] * 3
    await keys.forget(account, 2)
    assert await shown() == [FORGOTTEN] * 3


# ------------------------------------------------------------------ what may become of the log

Loss = Callable[[Bank], Awaitable[None]]


async def another(bank: Bank) -> None:
    await bank.renewed()


async def purged(bank: Bank) -> None:
    await bank.js.api(f"STREAM.PURGE.{STREAM}")


async def emptied_and_written(bank: Bank) -> None:
    await bank.js.api(f"STREAM.PURGE.{STREAM}")
    await publish(bank.js, accounts(1)[0])


async def a_hole(bank: Bank) -> None:
    last = (await bank.feed.end()).sequence
    await bank.js.api(f"STREAM.MSG.DELETE.{STREAM}", {"seq": last - 1})


async def marked(bank: Bank) -> None:
    await publish_markers(bank.js)


@pytest.mark.parametrize("lose", [another, purged, emptied_and_written, a_hole, marked])
async def test_what_the_log_has_lost_comes_from_the_store(bank: Bank, lose: Loss) -> None:
    events = await bank.stored(*accounts(3))
    _, after = await bank.gone_through(await bank.feed.beginning())
    events += await bank.stored(*accounts(3))
    events += await bank.stored(*accounts(1), forwarded=lose is not marked)
    await lose(bank)
    found, after = await bank.gone_through(after)
    assert set(ids(events)) <= set(ids(found))
    assert in_order(found)
    news = await bank.stored(*accounts(1))
    assert ids(await bank.read(after)) == ids(news), "once is enough"


async def test_a_server_that_lost_its_last_messages_and_numbers_others_like_them(
    bank: Bank,
) -> None:
    """The same stream by its time of creation, and the sequence is there: only the stamp tells."""
    events = await bank.stored(*accounts(3))
    after = await bank.feed.end()
    lost = Position(after.incarnation, after.sequence, "000000000000")
    assert sorted(ids(await bank.read(lost))) == sorted(ids(events))
    ahead = Position(after.incarnation, after.sequence + 1, after.stamp)
    assert sorted(ids(await bank.read(ahead))) == sorted(ids(events))


async def test_messages_that_expired_behind_a_consumer_are_no_loss(bank: Bank) -> None:
    await bank.stored(*accounts(3))
    after = await bank.feed.end()
    await bank.js.api(f"STREAM.PURGE.{STREAM}")
    assert not await bank.read(after)
    news = await bank.stored(*accounts(1))
    assert ids(await bank.read(after)) == ids(news)


async def test_without_a_log_there_is_the_store(bank: Bank) -> None:
    await bank.js.context.delete_stream(STREAM)
    events = await bank.stored(*accounts(3), forwarded=False)
    found, after = await bank.gone_through(await bank.feed.beginning())
    assert sorted(ids(found)) == sorted(ids(events))
    assert not may_follow(after, None)
    await ensure_log(bank.js, bank.settings)
    assert may_follow(after, await bank.js.state(STREAM))
    assert sorted(ids(await bank.read(after))) == sorted(ids(events))


async def test_messages_that_are_no_events_are_passed_over(bank: Bank) -> None:
    now = await bank.feed.end()
    [event] = accounts(1, 1)[0]
    for at, data in [
        (TOKEN_SUBJECT, b""),
        (TOKEN_SUBJECT, encode(event)),
        (subject(0), b"no JSON"),
        (subject(0), b"[]"),
        (subject(0), orjson.dumps({**orjson.loads(encode(event)), "slot": -1})),
    ]:
        state = await bank.js.state(STREAM)
        assert state is not None
        await bank.js.publish_batch([OutgoingMessage(at, data)], state.last)
    found, after = await bank.gone_through(now)
    assert (found, after.sequence) == ([], now.sequence + 5)


def test_an_event_that_json_can_t_hold_is_left_out_as_in_the_log() -> None:
    good, bad = accounts(2, 1)
    bad[0]["body"] = {"money": 1 + 2j}
    items = [Item(event, HERE) for event in (*bad, *good)]
    [line] = encoded(items, "bank", "http://localhost/schemas")
    assert orjson.loads(line)["id"] == good[0]["_id"]


async def test_what_somebody_wrote_into_the_bucket_is_no_subscription(js: JetStream) -> None:
    kept = Subscriptions(js)
    await kept.put("billing", HERE, revision=0)
    await kept._bucket.put("broken", {"position": 7})
    assert [each.name async for each in kept.all()] == ["billing"]
    assert await kept.get("broken") is None
    mended = await kept.put("broken", HERE, revision=0)
    assert await kept.get("broken") == mended
