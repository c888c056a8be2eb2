"""News wakes whoever follows something. It may be lost, so one reads without it as well."""

import asyncio

import pytest

from pipeline.messaging import JetStream, news
from pipeline.messaging.kv import Bucket
from pipeline.messaging.news import News, announce, news_of

NEVER = 3600.0


@pytest.fixture
def bucket(js: JetStream) -> Bucket:
    return Bucket(js, "box")


async def test_each_write_of_a_bucket_is_news(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write makes the bucket, although somebody waits for its news."""
    monkeypatch.setattr(news, "SELDOM", NEVER)
    async with asyncio.timeout(60), bucket.news() as told:
        for write in (bucket.put("a.b", {"n": 1}), bucket.delete("a.b")):
            waiting = asyncio.create_task(told.wait(0))
            await asyncio.sleep(0)
            assert not waiting.done()
            await write
            await waiting


async def test_news_during_a_read_is_not_lost(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "SELDOM", NEVER)
    async with asyncio.timeout(60), news_of(js, "it") as told:
        await announce(js, "it")
        await told.wait(0)
        await announce(js, "it")
        await announce(js, "it")
        await js.ping()  # what was published before its answer has come
        await told.wait(0)
        waiting = asyncio.create_task(told.wait(0))
        await js.ping()
        assert not waiting.done(), "two during one read are told once"
        await announce(js, "it")
        await waiting


async def test_one_reads_without_news_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "SELDOM", 0.05)
    async with asyncio.timeout(60):
        for _ in range(3):
            await News().wait(0)


async def test_much_news_is_no_reason_to_read_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "SELDOM", NEVER)
    told = News()
    told._came.set()
    await told.wait(NEVER)
    told._came.set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await told.wait(NEVER)
