"""`Idempotency-Key`: one key, one effect, one answer; on every replica, whatever is lost."""

import asyncio
import itertools
import json
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import aiohttp
import pytest
from ulid import ULID

from api.accounts.refusals import translate
from pipeline.banking.commands import Deposit
from pipeline.commands import CommandContext
from pipeline.eventstore import AppendResult, EventStore, KeyTaken, StoreUnavailable
from pipeline.model.events import Event
from pipeline.support.settings import Settings
from tests.accounts import account_service
from tests.commands import (
    Command,
    Replicas,
    close,
    create,
    deposit,
    freeze,
    opened,
    rename,
    replicas,
    send,
    transfer,
    unfreeze,
    withdraw,
)
from tests.harness import Role, cases, eventually, rounds
from tests.proxy import Held, HttpProxy


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Replicas]:
    async with replicas(settings) as both:
        yield both


async def test_every_command_sent_again_answers_the_same_on_every_replica(bank: Replicas) -> None:
    account, other = await opened(bank.bank, 100), await opened(bank.bank, 5)
    commands = [
        create("Ada Ω", 7),
        deposit(account, 5),
        withdraw(account, 105),
        deposit(account, 9),
        transfer(account, other, 9),
        rename(account),
        freeze(account),
        unfreeze(account),
        close(account),
    ]
    first = [await send(bank.bank, each, key=f"key {n}") for n, each in enumerate(commands)]
    assert [each.status for each in first] == [201] + [200] * 8
    assert not any(each.replayed for each in first)
    assert first[0].location == f"/{first[0].document['id']}"
    stored = await bank.store.count()
    for client in (bank.bank, bank.other):
        again = [await send(client, each, key=f"key {n}") for n, each in enumerate(commands)]
        assert [each.content for each in again] == [each.content for each in first]
        assert all(each.replayed for each in again)
    assert await bank.store.count() == stored


async def test_the_key_lives_with_the_event_of_the_account_that_acted(bank: Replicas) -> None:
    source, target = await opened(bank.bank, 1), await opened(bank.bank)
    await send(bank.bank, transfer(source, target), key="k")
    (paid,), (got,) = [await bank.store.load(each, after=1) for each in (source, target)]
    assert paid["idempotency_key"] == "k"
    assert len(paid["request"]) == 64
    assert "idempotency_key" not in got
    assert "request" not in got


async def test_another_request_under_the_key_is_refused(bank: Replicas) -> None:
    account, other = await opened(bank.bank, 10), await opened(bank.bank, 10)
    await send(bank.bank, deposit(account, 5), key="k")
    stored = await bank.store.count()
    for number, command in enumerate(
        [
            deposit(account, 6),
            deposit(other, 5),
            withdraw(account, 5),
            withdraw(account, 500),
            create(),
            rename(account),
            transfer(account, other, 5),
            transfer(account, account, 5),
        ]
    ):
        answer = await send(bank[number], command, key="k")
        assert (answer.status, answer.problem) == (422, "idempotency-key-reused"), command
    assert await bank.store.count() == stored
    assert (await send(bank.other, deposit(account, 5), key="k")).replayed


async def test_the_same_path_with_another_account_is_another_request(bank: Replicas) -> None:
    account, other = await opened(bank.bank), await opened(bank.bank)
    assert (await send(bank.bank, rename(account), key="k")).status == 200
    assert (await send(bank.bank, rename(other), key="k")).problem == "idempotency-key-reused"


async def test_how_the_body_is_written_does_not_matter(bank: Replicas) -> None:
    account = await opened(bank.bank)
    first = await send(bank.bank, deposit(account, 5), key="k")
    written = json.dumps({"money": 5, "id": account}, indent=4)
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    async with bank.other.post("/deposit", data=written, headers=headers) as answer:
        assert await answer.read() == first.body
        assert answer.headers["Idempotent-Replayed"] == "true"


@cases("key", ["", "x" * 201, "é", "tab\tin it"])
async def test_a_malformed_key_is_told_and_nothing_is_done(bank: Replicas, key: str) -> None:
    answer = await send(bank.bank, create(), key=key)
    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert await bank.store.count() == 0


async def test_two_keys_are_none(bank: Replicas) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with bank.bank.post("/create", json=create().body, headers=headers) as answer:
        assert (await answer.json())["type"] == "/problems/invalid-idempotency-key"
    assert await bank.store.count() == 0


@pytest.mark.parametrize("key", ["k", "x" * 200, '"a string of RFC 8941"', "~ !"])
async def test_any_other_key_will_do(bank: Replicas, key: str) -> None:
    first = await send(bank.bank, create(), key=key)
    assert (await send(bank.other, create(), key=key)).body == first.body
    assert await bank.store.count() == 1


async def test_a_refused_command_leaves_nothing_its_key_neither(bank: Replicas) -> None:
    account = await opened(bank.bank, 1)
    for number in range(4):
        answer = await send(bank[number], withdraw(account, 2), key="k")
        assert (answer.status, answer.problem) == (422, "insufficient-funds")
        assert not answer.replayed
    await send(bank.bank, deposit(account, 1))
    done = await send(bank.other, withdraw(account, 2), key="k")
    assert (done.status, done.replayed) == (200, False)
    assert (await send(bank.bank, withdraw(account, 2), key="k")).content == done.content


async def test_of_many_at_once_on_two_replicas_one_is_executed(bank: Replicas) -> None:
    source, target = await opened(bank.bank, 1_000), await opened(bank.bank)
    last_coin = await opened(bank.bank, rounds(5, 50))
    makers: list[Callable[[], Command]] = [
        lambda: deposit(target),
        lambda: withdraw(last_coin),
        lambda: transfer(source, target),
        lambda: create(),
        lambda: rename(target),
    ]
    for number in range(rounds(5, 50)):
        for make in makers:
            key, before = f"{number} {ULID()}", await bank.store.count()
            turns = random.sample(range(6), 6)
            answers = await asyncio.gather(
                *(send(bank[turn], make(), key=key) for turn in turns),
            )
            assert {each.status for each in answers} <= {200, 201}, answers
            assert len({each.content for each in answers}) == 1
            assert [each.replayed for each in answers].count(False) == 1
            assert await bank.store.count() == before + 1 + (make is makers[2])
    assert (await bank.read(last_coin))["balance"] == 0


class Gate(EventStore):
    """A store that holds appends while `open` is not set."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.mongodb_url, settings.mongodb_database)
        self.open, self.appends = asyncio.Event(), 0

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        self.appends += 1
        await self.open.wait()
        return await super().append_row(events, epoch)


async def test_the_second_of_two_waits_for_the_first(settings: Settings) -> None:
    store = Gate(settings)
    service = account_service(store)
    await service.open()
    context = CommandContext("c", "k", "request")
    both = [asyncio.create_task(service.create("Ada", 1, context)) for _ in range(2)]
    await eventually(lambda: store.appends == 1)
    assert await asyncio.wait(both, timeout=0.1) == (set(), set(both))
    store.open.set()
    first, second = await asyncio.gather(*both)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.after == second.after
    assert store.appends == 1
    await store.close()


class Unproven(EventStore):
    """A store whose index knows a key that no read shows yet, as after a change of primaries."""

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        return AppendResult(0, KeyTaken("k"))


async def test_a_key_that_is_not_stored_for_good_yet_is_no_answer(settings: Settings) -> None:
    store = Unproven(settings.mongodb_url, settings.mongodb_database)
    service = account_service(store)
    await service.open()
    with pytest.raises(StoreUnavailable) as unknown:
        await service.create("Ada", 1, CommandContext("c", "k", "request"))
    answer = translate(unknown.value)
    assert answer is not None
    assert answer.status == 503
    await store.close()


async def test_nothing_is_read_for_a_key_that_is_new(settings: Settings) -> None:
    class Counting(EventStore):
        asked = 0

        async def under_keys(self, keys: Sequence[str]) -> dict[str, Event]:
            self.asked += 1
            return await super().under_keys(keys)

    store = Counting(settings.mongodb_url, settings.mongodb_database)
    service = account_service(store)
    await service.open()
    account = (await service.create("Ada", 1, CommandContext("c", "1", "r"))).after.id
    await asyncio.gather(
        *(
            service.execute(account, Deposit(1), CommandContext("c", f"k{n}", "r"))
            for n in range(20)
        )
    )
    assert store.asked == 0
    await store.close()


async def test_a_lost_answer_is_given_by_another_replica(bank: Replicas) -> None:
    account = await opened(bank.bank, 10)
    held = Held(lambda request: request.method == "POST", after=True)
    async with HttpProxy(str(bank.bank.make_url("/"))) as way:
        with way.faulty(held):
            headers = {"Idempotency-Key": "k"}
            async with aiohttp.ClientSession(way.url) as http:
                lost = asyncio.create_task(
                    http.post("/withdraw", json=withdraw(account, 10).body, headers=headers)
                )
                await held.caught()
                lost.cancel()
                await asyncio.wait([lost])
            answer = await send(bank.other, withdraw(account, 10), key="k")
            (unread,) = await held.release()
    assert answer.content[:2] == (unread.status, unread.body)
    assert answer.replayed
    assert (await bank.read(account))["version"] == 2


Start = Callable[..., Awaitable[Role]]


async def test_a_killed_replica_answers_again_after_its_restart_and_so_do_others(
    bank: Replicas, role: Start, settings: Settings
) -> None:
    """Commands under load when it is killed: some answered, some stored, some never received."""
    account = await opened(bank.bank)
    url = f"http://127.0.0.1:{settings.accounts_port}"
    victim = await role("python", "-m", "api.accounts")
    answers: dict[str, bytes | None] = {}
    keys = (f"key {n}" for n in itertools.count())

    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=120)) as http:

        async def ask(key: str) -> bytes | None:
            headers = {"Idempotency-Key": key}
            try:
                async with http.post(
                    "/deposit", json=deposit(account).body, headers=headers
                ) as answer:
                    return await answer.read() if answer.status == 200 else None
            except aiohttp.ClientError:
                return None

        async def client() -> None:
            for key in keys:
                answers[key] = None
                answers[key] = await ask(key)
                if answers[key] is None:
                    return

        await eventually(lambda: ask("first"), message="it answers")
        for life in range(rounds(2, 8)):
            known = len(answers)
            clients = [asyncio.create_task(client()) for _ in range(16)]
            await eventually(lambda known=known: len(answers) > known + 60)  # type: ignore[misc]
            await victim.kill(signal.SIGKILL)
            await asyncio.gather(*clients)
            await victim.start()
            await eventually(lambda: ask("first"), message="it answers again")
            here = await asyncio.gather(*map(ask, answers))
            there = await asyncio.gather(
                *(send(bank[life], deposit(account), key=key) for key in answers)
            )
            for key, again, elsewhere in zip(list(answers), here, there, strict=True):
                assert answers[key] in (None, again)
                assert again == elsewhere.body
                answers[key] = again
    versions = sorted(json.loads(answer or b"")["version"] for answer in answers.values())
    assert versions == list(range(3, 3 + len(answers)))
    assert (await bank.read(account))["balance"] == 1 + len(answers)
