"""Requests that wait at the same time are sent as one, and each caller has what is its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from elastic_transport import ConnectionError as Unreachable

from pipeline.banking.balance import BALANCE
from pipeline.search import (
    ConditionalWrite,
    Elastic,
    Generation,
    GenerationGone,
    Generations,
    ProjectionUnavailable,
    SharedClient,
    Write,
    WriteOutcome,
    connect,
    group_commit,
)
from pipeline.search.group_commit import AT_ONCE, MUCH, Answers, GroupCommit
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.proxy import Answering, Forward, Held, HttpProxy, Reply, Request, TooLarge
from tests.proxy.bulk import ItemError, ItemErrors, is_bulk, items_of
from tests.search.test_bulk_sizes import LIMIT, large, refuse_long_ids
from tests.search.test_generations import document

pytestmark = pytest.mark.elasticsearch


@dataclass
class Shared:
    """Two generations that two clients write by way of one shared client; what has passed."""

    proxy: HttpProxy
    client: SharedClient
    elastics: list[Elastic]
    generations: list[Generation]
    sent: list[Request] = field(default_factory=list)

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        self.sent.append(request)
        return await forward(request)

    def aliases(self) -> list[set[str]]:
        """Which ones each bulk has written."""
        return [{item.index for item in items_of(each)} for each in self.sent if is_bulk(each)]

    async def ids(self, number: int) -> set[str]:
        index = self.generations[number].index
        await self.client.client.indices.refresh(index=index)
        found = await self.client.client.search(index=index, size=1000, source=False)
        return {hit["_id"] for hit in found["hits"]["hits"]}

    async def bulk(self, number: int, *ids: str) -> WriteOutcome:
        """Write documents of the first version, by the client of that generation."""
        return await self.write(number, *(Write(each, 1, document(each)) for each in ids))

    async def write(self, number: int, *writes: Write) -> WriteOutcome:
        alias = self.generations[number].alias
        return await self.elastics[number].bulk(alias, writes, sample=BALANCE.sample)


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[Shared]:
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        client = SharedClient(connect(proxy.url))
        elastics = [Elastic(proxy.url, client) for _ in range(2)]
        generations = Generations(elastics[0], BALANCE)
        first = await generations.ensure_live()
        await generations.create(2)
        opened = Shared(proxy, client, elastics, [first, Generation(2, "", BALANCE)])
        proxy.faults.append(opened)
        yield opened
        await client.close()


WRITTEN = WriteOutcome([], {})


async def test_what_is_ready_at_once_is_one_bulk(shared: Shared) -> None:
    outcomes = await asyncio.gather(*(shared.bulk(n % 2, f"id-{n}") for n in range(20)))
    assert outcomes == [WRITTEN] * 20
    assert shared.aliases() == [{"balance-g1", "balance-g2"}]
    assert await shared.ids(0) == {f"id-{n}" for n in range(0, 20, 2)}
    assert await shared.ids(1) == {f"id-{n}" for n in range(1, 20, 2)}


async def test_what_comes_while_one_is_under_way_is_the_next(shared: Shared) -> None:
    held = Held(is_bulk)
    with shared.proxy.faulty(held):
        writing = [asyncio.create_task(shared.bulk(0, "first"))]
        await held.caught()
        for n in range(5):
            writing.append(asyncio.create_task(shared.bulk(n % 2, f"later-{n}")))
            await asyncio.sleep(0)
        assert len(held.requests) == 1
        await held.release()
        assert await asyncio.gather(*writing) == [WRITTEN] * 6
    assert len(shared.aliases()) == 2


async def test_a_request_that_hangs_holds_nobody_back(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "SLOW_SECONDS", 0.1)
    held = Held(lambda request: b"hanging" in request.body)
    with shared.proxy.faulty(held):
        hanging = asyncio.create_task(shared.bulk(0, "hanging"))
        await held.caught()
        assert await shared.bulk(1, "other") == WRITTEN
        assert not hanging.done()
        await held.release()
        assert await hanging == WRITTEN


async def test_conflicts_and_refusals_are_their_owners(shared: Shared) -> None:
    await shared.write(0, Write("newer", 5, document("newer", version=5)))
    refused = ItemError(400, "document_parsing_exception", "failed to parse")
    fault = ItemErrors(lambda item: refused if item.id.startswith("bad") else None)
    shared.sent.clear()
    with shared.proxy.faulty(fault):
        outcomes = await asyncio.gather(
            shared.bulk(0, "a", "b"),
            shared.bulk(1, "c", "bad-1", "d"),
            shared.bulk(0, "e", "newer"),
            shared.bulk(1, "f"),
            shared.bulk(0, "bad-2"),
            shared.bulk(1, "g", "h"),
        )
    reason = "failed to parse"
    rejected = WriteOutcome([], {1: reason}), WriteOutcome([], {0: reason})
    conflict = WriteOutcome([1], {})
    assert list(outcomes) == [WRITTEN, rejected[0], conflict, WRITTEN, rejected[1], WRITTEN]
    assert len(items_of(next(each for each in shared.sent if is_bulk(each)))) == 11
    assert await shared.ids(0) == {"newer", "a", "b", "e"}
    assert await shared.ids(1) == {"c", "d", "f", "g", "h"}


@pytest.mark.parametrize(
    "fault", [TooLarge(LIMIT), TooLarge(LIMIT, status=400), TooLarge(LIMIT, reset=True)]
)
async def test_a_neighbour_that_is_too_large_harms_nobody(shared: Shared, fault: TooLarge) -> None:
    most = shared.elastics[1]._most
    with shared.proxy.faulty(fault):
        writing = asyncio.create_task(shared.write(0, large("large")))
        outcomes = await asyncio.gather(*(shared.bulk(1, f"id-{n}") for n in range(5)))
        assert outcomes == [WRITTEN] * 5
        if fault.reset:  # nobody says that it is too large
            await eventually(lambda: shared.elastics[0].retries > 0)
            assert not writing.done()
        else:
            assert set((await writing).rejected) == {0}
    if fault.reset:
        assert await writing == WRITTEN
    assert shared.elastics[1].retries == 0
    assert shared.elastics[1]._most == most, "it was not the one that was too large"


async def test_what_is_too_large_together_is_sent_apart(shared: Shared) -> None:
    fault = TooLarge(1000)
    with shared.proxy.faulty(fault):
        for n in range(10):
            names = [f"id-{n}-{m}" for m in range(20)]
            assert await asyncio.gather(*(shared.bulk(0, each) for each in names)) == [WRITTEN] * 20
    assert len(await shared.ids(0)) == 200
    assert 0 < fault.count < len(shared.aliases()) / 4, "how much is joined is learnt"


async def test_a_document_that_fails_the_whole_bulk_is_rejected_alone(shared: Shared) -> None:
    bad = Write("x" * 513, 1, document("x"))
    with shared.proxy.faulty(refuse_long_ids):
        outcomes = await asyncio.gather(
            shared.bulk(1, "a"), shared.write(0, bad), shared.bulk(1, "b")
        )
    assert [each.rejected.keys() for each in outcomes] == [set(), {0}, set()]
    assert await shared.ids(1) == {"a", "b"}


async def test_a_generation_that_is_gone_is_its_writers_trouble(
    settings: Settings, shared: Shared
) -> None:
    await shared.bulk(0, "x")
    await shared.bulk(1, "x")
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as http,
        http.delete("/balance-2") as answer,
    ):
        assert answer.status == 200
    shared.sent.clear()
    outcomes = await asyncio.gather(
        shared.bulk(0, "a"),
        shared.bulk(1, "b"),
        shared.bulk(0, "c"),
        shared.elastics[0].mget("balance-g1", ["x", "nobody"]),
        shared.elastics[1].mget("balance-g2", ["x"]),
        shared.elastics[0].mget("balance-g1", ["x"]),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], GenerationGone)
    assert isinstance(outcomes[4], GenerationGone)
    assert (outcomes[0], outcomes[2]) == (WRITTEN, WRITTEN)
    assert [set(each) for each in outcomes[3::2] if isinstance(each, dict)] == [{"x"}, {"x"}]
    assert len(shared.sent) == 2, "a bulk and an mget"


async def test_trouble_is_told_where_it_is(shared: Shared) -> None:
    closed = ItemError(403, "cluster_block_exception", "index [balance-1] blocked")
    fault = ItemErrors(lambda item: closed if item.index == "balance-g1" else None)
    with shared.proxy.faulty(fault):
        writing = asyncio.create_task(shared.bulk(0, "a"))
        assert await shared.bulk(1, "b") == WRITTEN
        await eventually(lambda: shared.elastics[0].trouble)
        assert await shared.bulk(1, "c") == WRITTEN
        assert shared.elastics[1].trouble is None
        assert (shared.elastics[0].retries > 0, shared.elastics[1].retries) == (True, 0)
    assert await writing == WRITTEN


@pytest.mark.parametrize("status", [429, 503])
async def test_what_has_failed_is_repeated_alone(shared: Shared, status: int) -> None:
    fault = Answering(status, match=lambda request: is_bulk(request) and b"ill" in request.body)
    with shared.proxy.faulty(fault):
        writing = asyncio.create_task(shared.bulk(0, "ill"))
        await eventually(lambda: shared.elastics[0].retries >= 2)
        before = fault.count
        for n in range(20):
            await shared.bulk(1, f"id-{n}")
        assert shared.elastics[1].retries == 0
    repeated = [each for each in shared.sent if b"ill" in each.body][1:]
    assert before
    assert all(len(items_of(each)) == 1 for each in repeated)
    assert await writing == WRITTEN


async def test_a_caller_that_is_cancelled_ends_no_other(shared: Shared) -> None:
    held = Held(is_bulk)
    with shared.proxy.faulty(held):
        under_way = [asyncio.create_task(shared.bulk(n % 2, f"id-{n}")) for n in range(4)]
        await held.caught()
        waiting = [asyncio.create_task(shared.bulk(n % 2, f"wait-{n}")) for n in range(4)]
        await asyncio.sleep(0)
        for task in (under_way[0], under_way[3], waiting[1]):
            task.cancel()
        await asyncio.wait((under_way[0], under_way[3], waiting[1]))
        await held.release()
        left = await asyncio.gather(*under_way[1:3], waiting[0], *waiting[2:])
    assert left == [WRITTEN] * 5
    assert await shared.ids(0) == {"id-0", "id-2", "wait-0", "wait-2"}
    assert await shared.ids(1) == {"id-1", "id-3", "wait-3"}, "what waited is not sent"


async def test_nothing_hangs_when_the_client_is_closed(shared: Shared) -> None:
    held = Held(is_bulk)
    with shared.proxy.faulty(held):
        under_way = asyncio.create_task(shared.bulk(0, "a"))
        await held.caught()
        waiting = asyncio.create_task(shared.bulk(1, "b"))
        await asyncio.sleep(0)
        await shared.client.close()
        await asyncio.wait((under_way, waiting), timeout=10)
        assert under_way.cancelled()
        assert waiting.cancelled()


# -------------------------------------------------------------------- compare and set, and looks


def checkpoint(name: str) -> ConditionalWrite:
    return ConditionalWrite(name, None, document(name))


async def test_conditional_writes_go_together_and_fail_apart(shared: Shared) -> None:
    first, second = shared.elastics
    (there,) = await first.compare_and_set("balance-g1", [checkpoint("there")])
    assert there is not None
    shared.sent.clear()
    one, two, three = await asyncio.gather(
        first.compare_and_set("balance-g1", [checkpoint("a"), checkpoint("there")]),
        second.compare_and_set("balance-g1", [there_is := checkpoint("b")._replace(stamp=there)]),
        second.compare_and_set("balance-g1", [checkpoint("c")]),
    )
    assert there_is.stamp == there
    assert len(shared.aliases()) == 1
    assert [stamp is None for stamp in (*one, *two, *three)] == [False, True, True, False]
    found = await first.mget("balance-g1", ["a", "c", "there"])
    assert found["a"].stamp == one[0]
    assert found["c"].stamp == three[0]


@pytest.mark.parametrize("landed", [False, True])
async def test_a_conditional_write_is_sent_once(shared: Shared, landed: bool) -> None:
    """Each of those whose answer was lost together must read again."""
    first, second = shared.elastics

    async def lost(request: Request, forward: Forward) -> Reply:
        if is_bulk(request):
            if landed:
                await forward(request)
            raise ConnectionResetError
        return await forward(request)

    with shared.proxy.faulty(lost):
        outcomes = await asyncio.gather(
            first.compare_and_set("balance-g1", [checkpoint("a")]),
            second.compare_and_set("balance-g1", [checkpoint("b")]),
            return_exceptions=True,
        )
    assert [type(each) for each in outcomes] == [ProjectionUnavailable] * 2
    assert len(shared.aliases()) == 1
    assert len(await first.mget("balance-g1", ["a", "b"])) == 2 * landed


async def test_conditional_writes_that_are_too_large_together_are_sent_apart(
    shared: Shared,
) -> None:
    with shared.proxy.faulty(TooLarge(500)):
        stamps = await asyncio.gather(
            *(
                each.compare_and_set("balance-g1", [checkpoint(f"{each}")])
                for each in shared.elastics
            )
        )
    assert [None] not in stamps


async def test_a_look_begins_after_it_was_asked_for(shared: Shared) -> None:
    """A node that was restarted before the question must not look as before."""
    held = Held(lambda request: "_nodes" in request.path)
    with shared.proxy.faulty(held):
        early = asyncio.create_task(shared.elastics[0].boots())
        await held.caught()
        late = [asyncio.create_task(each.boots()) for each in shared.elastics * 3]
        await asyncio.sleep(0)
        await held.release()
        boots = await asyncio.gather(early, *late)
    assert boots[0]
    assert all(each == boots[0] for each in boots)
    assert len([each for each in shared.sent if "_nodes" in each.path]) == 2


# -------------------------------------------------------------------- the queue alone


class Server:
    """Answers with the number of each item's request, when it is let go."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.go = asyncio.Event()

    async def send(self, bodies: object) -> Answers:
        self.requests.append([bytes(each) for each in bodies])  # type: ignore[attr-defined]
        number = len(self.requests)
        await self.go.wait()
        return [{"request": number} for each in self.requests[number - 1] for _ in each.split()]


def asked(group: GroupCommit, items: int) -> asyncio.Task[Answers]:
    return asyncio.create_task(group.add(b"x " * items, items))


async def test_much_that_waits_goes_beside_what_is_under_way() -> None:
    server = Server()
    group = GroupCommit(server.send, again=lambda _: True)
    tasks = [asked(group, 1)]
    await eventually(lambda: len(server.requests) == 1)
    tasks += [asked(group, 1) for _ in range(MUCH - 1)]
    await asyncio.sleep(0.01)
    assert len(server.requests) == 1
    tasks += [asked(group, 1)]
    await eventually(lambda: len(server.requests) == 2)
    tasks += [asked(group, MUCH) for _ in range(50)]
    await eventually(lambda: len(server.requests) == AT_ONCE)
    await asyncio.sleep(0.01)
    assert len(server.requests) == AT_ONCE
    server.go.set()
    answers = await asyncio.gather(*tasks)
    assert [len(each) for each in answers] == [1] * (MUCH + 1) + [MUCH] * 50


async def test_large_requests_do_not_hold_a_small_one_back() -> None:
    server = Server()
    group = GroupCommit(server.send, again=lambda _: True)
    tasks = [asked(group, MUCH)]
    await eventually(lambda: len(server.requests) == 1)
    tasks += [asked(group, 1)]
    await eventually(lambda: len(server.requests) == 2)
    tasks += [asked(group, 1)]
    await asyncio.sleep(0.01)
    assert len(server.requests) == 2
    server.go.set()
    await asyncio.gather(*tasks)


async def test_requests_that_follow_one_another_are_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "STEADY_SECONDS", 3600.0)
    server = Server()
    server.go.set()
    group = GroupCommit(server.send, again=lambda _: True, gather=0.5)
    await asked(group, 1)
    tasks = []
    for _ in range(5):
        tasks.append(asked(group, 1))
        for _ in range(10):  # so many turns of the loop later it would have been sent
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(server.requests) == 2


async def test_neither_a_first_request_nor_much_of_it_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "STEADY_SECONDS", 3600.0)
    server = Server()
    server.go.set()
    group = GroupCommit(server.send, again=lambda _: True, gather=3600.0)
    async with asyncio.timeout(60):
        await asked(group, 1)
        await asked(group, MUCH)
        monkeypatch.setattr(group_commit, "STEADY_SECONDS", 0.0)
        await asked(group, 1)


async def test_a_wrong_number_of_answers_is_nobodys() -> None:
    async def short(bodies: object) -> Answers:
        return [{"request": 1}]

    group = GroupCommit(short, again=lambda _: True)
    answers = await asyncio.gather(
        group.add(b"a", 1), group.add(b"b", 2), group.add(b"c", 1), return_exceptions=True
    )
    assert [answers[0], answers[2]] == [[{"request": 1}]] * 2
    assert isinstance(answers[1], ValueError)


async def test_the_limit_grows_again() -> None:
    """One outage must not have small requests sent for ever."""
    server, down = Server(), True

    async def send(bodies: list[bytes]) -> Answers:
        if down and len(bodies) > 1:
            raise Unreachable("down")
        return await server.send(bodies)

    server.go.set()
    group = GroupCommit(send, again=lambda _: True)  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.gather(*(asked(group, 20) for _ in range(40)))
    down = False
    server.requests.clear()
    await asyncio.gather(*(asked(group, 40) for _ in range(50)))
    assert len(server.requests) > 2
    began = time.monotonic()
    while len(server.requests) > 5:
        assert time.monotonic() - began < 30
        server.requests.clear()
        await asyncio.gather(*(asked(group, 10) for _ in range(50)))
