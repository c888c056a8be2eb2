"""KV buckets: compare-and-set keeps one of two writers, and a copy follows whatever happens."""

import asyncio
import logging
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nats.errors import NoRespondersError

from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry, Mirror, Overtaken
from tests.conftest import placed
from tests.harness import eventually, rounds


@pytest.fixture
def bucket(js: JetStream) -> Bucket:
    return Bucket(js, "box")


def values(mirror: Mirror) -> dict[str, dict[str, Any]]:
    return {key: entry.value for key, entry in mirror.entries.items()}


async def test_a_bucket_that_does_not_exist_is_empty(bucket: Bucket) -> None:
    assert await bucket.get("a") is None
    assert await bucket.entries() == {}
    assert await Mirror(bucket).refresh() == frozenset()
    assert await bucket.js.state(bucket.stream) is None, "reading makes none"


async def test_what_is_put_is_what_nats_kv_shows(js: JetStream, bucket: Bucket) -> None:
    revision = await bucket.put("a.b", {"n": 1})
    assert (await bucket.entries()).keys() == {"a.b"}
    entry = await bucket.get("a.b")
    assert entry is not None
    assert (entry.key, entry.revision, entry.value) == ("a.b", revision, {"n": 1})
    theirs = await js.context.key_value("box")
    assert (await theirs.get("a.b")).value == b'{"n":1}'
    await theirs.put("c", b'{"n": 2}')
    assert {key: entry.value for key, entry in (await bucket.entries()).items()} == {
        "a.b": {"n": 1},
        "c": {"n": 2},
    }


async def test_a_bucket_whose_leader_is_not_known_yet_is_waited_for(
    js: JetStream, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, unheard = js.publish, iter(range(3))

    async def sometimes(*args: Any, **options: Any) -> int:
        if next(unheard, None) is not None:
            raise NoRespondersError
        return await publish(*args, **options)

    monkeypatch.setattr(js, "publish", sometimes)
    assert await bucket.put("a", {"n": 1}) == 1


async def test_compare_and_set(bucket: Bucket) -> None:
    first = await bucket.put("a", {"n": 1}, expected=0)
    for stale in (0, first + 1):
        with pytest.raises(Overtaken):
            await bucket.put("a", {"n": 2}, expected=stale)
    second = await bucket.put("a", {"n": 2}, expected=first)
    with pytest.raises(Overtaken):
        await bucket.delete("a", expected=first)
    await bucket.delete("a", expected=second)
    assert await bucket.get("a") is None
    with pytest.raises(Overtaken):
        await bucket.put("a", {"n": 3}, expected=second)
    await bucket.put("a", {"n": 3}, expected=0)
    await bucket.put("a", {"n": 4})
    await bucket.delete("a")
    assert await bucket.entries() == {}


async def test_of_writers_at_once_one_wins_each_time(js: JetStream) -> None:
    async def count() -> None:
        bucket = Bucket(js, "box")
        for _ in range(10):
            while True:
                known = await bucket.get("n")
                value = {"n": known.value["n"] + 1 if known else 1}
                try:
                    await bucket.put("n", value, expected=known.revision if known else 0)
                except Overtaken:
                    continue
                break

    await asyncio.gather(*(count() for _ in range(5)))
    entry = await Bucket(js, "box").get("n")
    assert entry is not None
    assert entry.value == {"n": 50}


@dataclass(frozen=True)
class Counted:
    n: int
    revision: int = 0


def counted(entry: KeyValueEntry | None) -> Counted | None:
    return Counted(entry.value["n"], entry.revision) if entry else None


async def test_of_changes_at_once_none_is_lost(js: JetStream) -> None:
    def one_more(known: Counted | None) -> Counted:
        return Counted(known.n + 1 if known else 1)

    async def count() -> None:
        bucket = Bucket(js, "box")
        for _ in range(10):
            await bucket.change("n", counted, one_more)

    await asyncio.gather(*(count() for _ in range(5)))
    bucket = Bucket(js, "box")
    entry = await bucket.get("n")
    assert entry is not None
    assert entry.value == {"n": 50}
    for same in (lambda known: None, lambda known: known):
        assert await bucket.change("n", counted, same) == Counted(50, entry.revision)
    assert await bucket.get("n") == entry, "nothing was written"
    assert await bucket.write("n", Counted(7, entry.revision)) == counted(await bucket.get("n"))
    with pytest.raises(Overtaken):
        await bucket.write("n", Counted(8, entry.revision))


async def test_of_those_who_remove_a_key_one_did(js: JetStream, bucket: Bucket) -> None:
    await bucket.put("a", {})
    removed = await asyncio.gather(*(Bucket(js, "box").remove("a") for _ in range(5)))
    assert sorted(removed) == [False] * 4 + [True]
    assert await bucket.get("a") is None
    assert not await bucket.remove("a")


async def test_a_value_written_by_hand_is_skipped_and_may_be_overwritten(
    js: JetStream, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = Mirror(bucket)
    await bucket.put("good", {})
    theirs = await js.context.key_value("box")
    for value in (b"not JSON", b"[1]", b"\xff"):
        await theirs.put("bad", value)
        caplog.clear()
        assert await mirror.refresh() <= {"good"}
        assert values(mirror) == {"good": {}}
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "'bad'" in caplog.text
    caplog.clear()
    assert await mirror.refresh() == frozenset()
    assert not caplog.records, "it is told once"
    assert await bucket.get("bad") is None
    await bucket.put("bad", {"n": 1}, expected=0)
    assert await mirror.refresh() == {"bad"}
    assert values(mirror) == {"good": {}, "bad": {"n": 1}}


async def test_a_copy_reads_on(
    js: JetStream, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(bucket)
    for key in "abc":
        await bucket.put(key, {"n": 1})
    assert await mirror.refresh() == {"a", "b", "c"}
    await bucket.put("a", {"n": 2})
    await bucket.put("a", {"n": 3})
    await bucket.delete("b")
    asked: list[str] = []
    request = js.nc.request

    async def listening(subject: str, *rest: Any, **options: Any) -> Any:
        asked.append(subject)
        return await request(subject, *rest, **options)

    monkeypatch.setattr(js.nc, "request", listening)
    assert await mirror.refresh() == {"a", "b"}
    assert values(mirror) == {"a": {"n": 3}, "c": {"n": 1}}
    assert len(asked) == 4, "the state, two messages, and that there are no more"
    asked.clear()
    assert await mirror.refresh() == frozenset()
    assert asked == ["$JS.API.STREAM.INFO.KV_box"]
    await bucket.put("d", {})
    await bucket.delete("d")
    assert await mirror.refresh() == frozenset(), "it came and went"


async def test_a_copy_notices_what_was_purged(js: JetStream, bucket: Bucket) -> None:
    mirror = Mirror(bucket)
    for key in "abc":
        await bucket.put(key, {"n": 1})
    await mirror.refresh()
    await js.context.purge_stream(bucket.stream, subject="$KV.box.b")
    assert await mirror.refresh() == {"b"}
    await js.context.purge_stream(bucket.stream)
    assert await mirror.refresh() == {"a", "c"}
    assert mirror.entries == {}
    await bucket.put("d", {})
    assert await mirror.refresh() == {"d"}


async def test_a_copy_notices_a_bucket_deleted_and_made_anew(js: JetStream, bucket: Bucket) -> None:
    mirror = Mirror(bucket)
    for key in "abc":
        await bucket.put(key, {"n": 1})
    await mirror.refresh()
    await js.context.delete_stream(bucket.stream)
    for key in "bdc":  # as many messages, and the same last sequence
        await bucket.put(key, {"n": 1 + (key == "b")})
    assert await mirror.refresh() == {"a", "b", "d"}
    assert values(mirror) == {"b": {"n": 2}, "c": {"n": 1}, "d": {"n": 1}}
    await js.context.delete_stream(bucket.stream)
    assert await mirror.refresh() == {"b", "c", "d"}
    with pytest.raises(Overtaken):
        await bucket.put("b", {}, expected=1)
    assert await mirror.refresh() == frozenset()


async def test_copies_agree_with_the_bucket_whatever_happens_to_it(js: JetStream) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    bucket, other = Bucket(js, "box"), Bucket(js, "box")
    mirror = Mirror(bucket)

    async def happens() -> None:
        key = rng.choice("abcdef")
        match rng.randrange(20):
            case 0:
                await eventually(lambda: js.context.delete_stream(bucket.stream))
            case 1:
                await js.context.purge_stream(bucket.stream)
            case 2:
                await js.context.purge_stream(bucket.stream, subject=f"$KV.box.{key}")
            case n if n < 8:
                await other.delete(key)
            case _:
                await other.put(key, {"n": rng.randrange(3)})

    for _ in range(rounds(150, 1500)):
        await other.ensure()
        for _ in range(rng.randrange(5)):
            await happens()
            await other.ensure()
        if rng.random() < 0.3:  # some while it reads
            await asyncio.gather(mirror.refresh(), happens())
        before = dict(mirror.entries)
        changed = await mirror.refresh()
        assert mirror.entries == await bucket.entries()
        differing = {
            key
            for key in before.keys() | mirror.entries.keys()
            if before.get(key) != mirror.entries.get(key)
        }
        assert changed == differing


async def test_a_copy_survives_a_server_that_goes_and_comes(scratch: Path) -> None:
    servers = EmbeddedServers(placed(scratch), ["nats"])
    await servers.start()
    server = servers.servers["nats"]
    js = await JetStream.connect(server.url, "test")
    try:
        bucket = Bucket(js, "box")
        mirror = Mirror(bucket)
        await bucket.put("a", {"n": 1})
        await mirror.refresh()
        await server.kill(signal.SIGKILL)
        await server.wait_dead()
        refreshing = asyncio.gather(mirror.refresh(), return_exceptions=True)
        await server.start()
        await refreshing
        assert values(mirror) == {"a": {"n": 1}}
        assert await eventually(lambda: refreshed(mirror))
        await eventually(lambda: bucket.put("b", {"n": 2}))
        assert await mirror.refresh() == {"b"}
        assert values(mirror) == {"a": {"n": 1}, "b": {"n": 2}}
    finally:
        await js.close()
        await servers.stop()


async def refreshed(mirror: Mirror) -> bool:
    await mirror.refresh()
    return True
