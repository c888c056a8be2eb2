"""A proxy that takes no large requests: bulks are sent in halves, and a single document that is too
large is rejected alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.search import ConditionalWrite, Elastic, Generation, Generations, Write
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.proxy import HttpProxy, TooLarge
from tests.proxy.faults import answer
from tests.proxy.http import Forward, Reply, Request
from tests.search.test_generations import document

pytestmark = pytest.mark.elasticsearch

LIMIT = 20_000
PROBE = b'"_id":"-"'


@dataclass
class Behind:
    """Elasticsearch behind a proxy."""

    proxy: HttpProxy
    elastic: Elastic
    generation: Generation

    async def count(self) -> int:
        await self.elastic.client.indices.refresh(index=self.generation.index)
        answer = await self.elastic.client.count(index=self.generation.index)
        return int(answer["count"])


@pytest.fixture
async def behind(settings: Settings) -> AsyncIterator[Behind]:
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        elastic = Elastic(proxy.url)
        yield Behind(proxy, elastic, await Generations(elastic, BALANCE).ensure_live())
        await elastic.close()


def writes(count: int) -> list[Write]:
    return [Write(f"id-{n}", 1, document(f"id-{n}")) for n in range(count)]


def large(account_id: str) -> Write:
    return Write(account_id, 1, document(account_id, owner="x" * (LIMIT + 1000)))


@pytest.mark.parametrize("fault", [TooLarge(LIMIT), TooLarge(LIMIT, status=400)])
async def test_a_bulk_that_is_too_large_is_halved(behind: Behind, fault: TooLarge) -> None:
    with behind.proxy.faulty(fault):
        outcome = await behind.elastic.bulk(behind.generation.alias, writes(1000))
    assert outcome == ([], {})
    assert await behind.count() == 1000
    assert behind.elastic.retries == 0, "nothing is sent again unchanged"


async def test_what_a_proxy_takes_is_learnt(behind: Behind) -> None:
    fault = TooLarge(LIMIT)
    with behind.proxy.faulty(fault):
        await behind.elastic.bulk(behind.generation.alias, writes(1000))
        refused = fault.count
        await behind.elastic.bulk(behind.generation.alias, writes(1000))
    assert fault.count == refused


async def test_a_bulk_that_breaks_off_is_halved(behind: Behind) -> None:
    with behind.proxy.faulty(TooLarge(LIMIT, reset=True)):
        outcome = await behind.elastic.bulk(behind.generation.alias, writes(300))
    assert outcome == ([], {})
    assert await behind.count() == 300


async def test_a_read_that_breaks_off_is_halved(behind: Behind) -> None:
    await behind.elastic.bulk(behind.generation.alias, writes(100))
    with behind.proxy.faulty(TooLarge(300, reset=True)):
        found = await behind.elastic.mget(behind.generation.alias, [f"id-{n}" for n in range(100)])
    assert len(found) == 100


async def test_a_document_that_is_too_large_is_rejected_alone(behind: Behind) -> None:
    items = [*writes(100), large("large"), *writes(150)[100:]]
    with behind.proxy.faulty(TooLarge(LIMIT)):
        outcome = await behind.elastic.bulk(behind.generation.alias, items, sample=BALANCE.sample)
    assert outcome.conflicts == []
    assert set(outcome.rejected) == {100}
    assert "413" in outcome.rejected[100]
    assert await behind.count() == 150


@pytest.mark.parametrize("number", [0, 60, 149])
async def test_a_document_that_fails_its_whole_bulk_is_rejected_alone(
    behind: Behind, number: int
) -> None:
    items = writes(150)
    items[number] = Write("x" * 513, 1, document("x"))
    with behind.proxy.faulty(refuse_long_ids):
        outcome = await behind.elastic.bulk(behind.generation.alias, items, sample=BALANCE.sample)
    assert outcome.conflicts == []
    assert set(outcome.rejected) == {number}
    assert await behind.count() == 149


async def refuse_long_ids(request: Request, forward: Forward) -> Reply:
    """As Elasticsearch does; the embedded one takes such ids."""
    if b"x" * 513 in request.body:
        return answer(400, {"error": {"type": "x", "reason": "id is too long"}, "status": 400})
    return await forward(request)


class OpenForOne:
    """Answers as if the index were closed, but to the first bulk that has a probe and documents and
    to all after the third one. (The embedded server writes to a closed index.)"""

    def __init__(self) -> None:
        self.bulks = 0

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if len(request.body) > 1000 and (self.bulks or PROBE in request.body):
            self.bulks += 1
        if self.bulks == 1 or self.bulks > 3:
            return await forward(request)
        error = {"type": "index_closed_exception", "reason": "closed"}
        closed = {"index": {"_index": "balance-1", "status": 400, "error": error}}
        return answer(200, {"items": [closed] * (request.body.count(b"\n") // 2)})


@pytest.mark.parametrize("small", [False, True])
async def test_an_index_that_closes_between_two_bulks_rejects_nothing(
    behind: Behind, small: bool
) -> None:
    alias, items = behind.generation.alias, writes(300)
    if small:  # chunks from the beginning, not halves
        behind.elastic._most = LIMIT
    items[3] = Write("bad", 1, {**document("bad"), "unknown": 1})
    with behind.proxy.faulty(TooLarge(LIMIT), OpenForOne()):
        outcome = await behind.elastic.bulk(alias, items, sample=BALANCE.sample)
    assert set(outcome.rejected) == {3}
    assert await behind.count() == 299


@pytest.mark.parametrize(
    ("status", "why"), [(413, "413"), (400, "400"), (403, "refuses our credentials")]
)
async def test_a_proxy_that_takes_nothing_is_waited_for(
    behind: Behind, status: int, why: str
) -> None:
    with behind.proxy.faulty(TooLarge(0, status=status)):
        writing = asyncio.create_task(behind.elastic.bulk(behind.generation.alias, writes(3)))
        await eventually(lambda: behind.elastic.retries >= 3)
        assert not writing.done()
        await eventually(lambda: why in (behind.elastic.trouble or ""))
    assert await writing == ([], {})


async def test_reads_and_checkpoints_are_halved(behind: Behind) -> None:
    alias, items = behind.generation.alias, writes(200)
    conditional = [ConditionalWrite(f"cas-{n}", None, document(f"cas-{n}")) for n in range(200)]
    await behind.elastic.bulk(alias, items)
    with behind.proxy.faulty(TooLarge(500)):
        found = await behind.elastic.mget(alias, [each.id for each in items])
    assert len(found) == 200
    with behind.proxy.faulty(TooLarge(LIMIT)):
        stamps = await behind.elastic.compare_and_set(alias, conditional)
    assert None not in stamps
    assert await behind.count() == 400
