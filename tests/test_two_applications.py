"""The bank and another application on the same servers: each is rebuilt and repartitioned while the
other is under load, and neither touches what the other has."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis.asyncio
from ulid import ULID

from pipeline.coordination.partitioning import partitioning
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event, new_event
from pipeline.model.names import BANK, names_of
from pipeline.operations.verify import verify
from pipeline.search import Elastic
from pipeline.support.settings import Settings
from tests.apps.post import POST, SCANNED, SENT
from tests.bank import exact
from tests.conftest import beside
from tests.harness import LONG_LANE, Role, eventually
from tests.load import Appends, Load

pytestmark = pytest.mark.elasticsearch

ROOT = Path(__file__).parents[1]
WHERE = "tests.apps.post:POST"
PLACES_HERE = ("Porto", "Lisboa", "Faro")
TROUBLE = (
    "Messages were removed from the stream",
    "are gone from the stream",
    "backfilling from the event store",
    "made the index",
    "repaired: ",
    "is gone; it is created again",
    "the stream is gone",
    "the stream was deleted",
)
"""What roles log that have lost something."""


class Parcels(Load):
    """Parcels that are sent and scanned."""

    def _next(self) -> Event:
        free = sorted(self._versions.keys() - self._busy)
        body = {"at": self._random.choice(PLACES_HERE)}
        if len(free) < 30 or self._random.random() < 0.1:
            parcel, kind, body = str(ULID()), SENT, {**body, "to": "Rua das Flores 3"}
        else:
            parcel, kind = self._random.choice(free), SCANNED
        self._busy.add(parcel)
        self._versions[parcel] = self._versions.get(parcel, 0) + 1
        return new_event(parcel, self._versions[parcel], kind, body)


@dataclass
class Side:
    """One of the two."""

    settings: Settings
    store: EventStore
    load: Load
    roles: list[Role] = field(default_factory=list)

    async def start(self, *words: str) -> Role:
        """One of its roles, or a command of it."""
        started = Role(self.settings, "bank", *words, PYTHONPATH=str(ROOT))
        await started.start()
        self.roles.append(started)
        return started

    async def run(self, *words: str) -> str:
        """A command of it that must succeed; returns what it printed."""
        command = await self.start(*words)
        assert await command.wait(180) == 0, command.log()
        return command.log()

    async def becomes_quiet(self) -> None:
        """Wait until no event waits; then the markers of the beginning are read as well."""

        async def quiet() -> bool:
            found = json.loads(await self.run("partitions", "--json"))
            return all(each["lag_events"] == 0 for each in found)

        await eventually(quiet, message="nothing waits")

    async def run_beside(self, other: "Side", *words: str) -> None:
        """A command of it that must succeed, while the other one is under load."""
        before = other.load.acknowledged
        await self.run(*words)
        assert other.load.acknowledged > before, "the load has stood still"

    async def become_exact(self) -> None:
        for each in self.settings.kept:
            await eventually(
                lambda each=each: exact(self.settings.elasticsearch_url, self.store, each),  # type: ignore[misc]
                seconds=120,
                message=f"{each.alias} is exact",
                every=0.3,
            )

    async def holds(self) -> None:
        report = await verify(self.settings)
        assert report.holds, [each for each in report.verdicts if each.holds is False]
        assert report.figures.events == self.load.acknowledged, "none is lost, and none is foreign"


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Side]:
    # No token of a quiet bank: a test looks at whether anybody writes into its stream.
    changed = settings.model_copy(update={"partitions": 4, "token_seconds": 3600.0})
    async with side(changed, Load) as found:
        yield found


@pytest.fixture
async def post(settings: Settings) -> AsyncIterator[Side]:
    of_post = beside(settings, WHERE, "places scans").model_copy(update={"partitions": 3})
    async with side(of_post, Parcels) as found:
        yield found


@asynccontextmanager
async def side(settings: Settings, load: Callable[[Appends], Load]) -> AsyncIterator[Side]:
    store = EventStore(settings.mongodb, settings.mongodb_database)
    await store.setup()
    found = Side(settings, store, load(store))
    try:
        yield found
    finally:
        await asyncio.gather(*(each.close() for each in found.roles))
        await store.close()


async def started(*sides: Side) -> None:
    for each in sides:
        for role in ("forwarder", "worker"):
            await each.start(role)
        await each.load.write(40)
    for each in sides:
        await each.become_exact()


async def everything(settings: Settings, js: JetStream) -> dict[str, set[str]]:
    """The names of all that the servers have, but for those in MongoDB."""
    elastic = Elastic(settings.elasticsearch_url)
    found = (await elastic.client.indices.get(index="*")).body
    await elastic.close()
    async with redis.asyncio.from_url(settings.redis_url, decode_responses=True) as client:
        keys = {key async for key in client.scan_iter()}
    aliases = {alias for about in found.values() for alias in about["aliases"]}
    streams = (await js.api("STREAM.NAMES"))["streams"]
    return {"streams": set(streams), "indexes": {*found, *aliases}, "keys": keys}


def is_of_post(name: str) -> bool:
    return name.removeprefix("KV_").startswith(("post-", "post:"))


@pytest.mark.drill
async def test_each_is_rebuilt_and_repartitioned_while_the_other_is_under_load(
    bank: Side, post: Side, js: JetStream
) -> None:
    await started(bank, post)
    async with bank.load.steady(40), post.load.steady(40):
        for one, other, count in ((post, bank, "6"), (bank, post, "5")):
            await one.run_beside(other, "rebuild", "--wait")
            await one.run_beside(other, "repartition", count)
        await bank.load.more(50)
        await post.load.more(50)
    for each in (bank, post):
        await each.become_exact()
        await each.holds()
        assert "holds" in await each.run("verify")

    there = await JetStream.connect(post.settings.nats, "test")
    counts = [await partitioning(connection) for connection in (js, there)]
    await there.close()
    assert [found and found.count for found in counts] == [5, 6]
    names = await everything(bank.settings, js)
    assert {"post-log", "post-activity-changelog", "KV_post-requests"} <= names["streams"]
    assert {"post-places", "post-places-2", "post-scans-1", "post-checkpoints"} <= names["indexes"]
    assert {"balance", "balance-2", "bank-checkpoints"} <= names["indexes"]
    assert {"post:lease:forwarder", "bank:lease:forwarder"} <= names["keys"]
    for stream in names["streams"]:
        assert POST.names.owns_stream(stream) == is_of_post(stream), stream
        assert BANK.owns_stream(stream) != is_of_post(stream), stream
    assert not {each for each in names["keys"] if not each.startswith(("post:", "bank:"))}


@LONG_LANE
@pytest.mark.drill
async def test_what_one_loses_leaves_the_other_whole(bank: Side, post: Side, js: JetStream) -> None:
    """Its stream purged and deleted, its bucket of epochs, its checkpoints and an index deleted."""
    await started(bank, post)
    await bank.becomes_quiet()
    before, said = await js.state(BANK.log), [len(each.log()) for each in bank.roles]
    elastic = Elastic(post.settings.elasticsearch_url)
    names = POST.names
    async with post.load.steady(40):
        await js.api(f"STREAM.PURGE.{names.log}")
        await post.load.more(30)
        await js.api(f"STREAM.DELETE.KV_{names.bucket('partitions-places')}")
        await elastic.client.indices.delete(index=names.checkpoints)
        await post.load.more(30)
        await js.api(f"STREAM.DELETE.{names.log}")
        await elastic.client.indices.delete(index="post-scans-1")
        await post.load.more(30)
    await elastic.close()
    await post.become_exact()
    assert await js.state(BANK.log) == before, "nobody wrote into the bank's stream"
    for each, known in zip(bank.roles, said, strict=True):
        later = each.log()[known:]
        assert not [each for each in TROUBLE if each in later], later
    await bank.load.write(20)
    for side_ in (bank, post):
        await side_.become_exact()
        await side_.holds()


@LONG_LANE
@pytest.mark.drill
async def test_a_redis_that_loses_all_of_both_ends_with_both_exact(
    bank: Side, post: Side, js: JetStream
) -> None:
    await started(bank, post)
    async with bank.load.steady(40), post.load.steady(40):
        async with redis.asyncio.from_url(bank.settings.redis_url) as client:
            await client.flushall()
        await bank.load.more(100)
        await post.load.more(100)
    for each in (bank, post):
        await each.become_exact()
        await each.holds()


def test_an_application_says_what_is_not_set() -> None:
    found = Settings.model_validate({"application": WHERE})
    assert (found.mongodb_database, found.projections) == ("post", "places scans")
    assert [each.alias for each in found.kept] == ["post-places", "post-scans"]
    assert found.names == names_of("post") == found.nats.names
    first = Settings.model_validate({"application": WHERE, "projections": "scans places"})
    assert [each.name for each in first.kept] == ["places", "scans"], "its first one is the first"
    assert found.kept == found.kept, "always the same objects"
    assert [each.alias for each in Settings().kept] == ["balance", "statement"]
