"""Many commands for one account at the same time: decided in a row, each with its own outcome."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import pytest
from ulid import ULID

from api.accounts.app import create_app
from api.accounts.service import AccountService
from api.http.headers import Condition
from pipeline.banking.account import ACCOUNT, Account
from pipeline.banking.commands import Command, Deposit, Withdraw
from pipeline.banking.errors import InsufficientFunds
from pipeline.commands import CommandContext, Done, KeyReused, Versioned, VersionMismatch
from pipeline.eventstore import AppendResult, EventStore, StoreUnavailable, StoreUnguarded
from pipeline.model.events import Event
from pipeline.model.personal import Subject
from pipeline.support.settings import Settings
from tests.accounts import account_service, fold
from tests.commands import Answer, Replicas, deposit, opened, replicas, send, transfer, withdraw
from tests.harness import eventually, rounds
from tests.proxy import TcpProxy
from tests.services import serving

CONTEXT = CommandContext("c")


class Watched(EventStore):
    """A store that notes the rows that are appended to it and how often an account is read."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.mongodb_url, settings.mongodb_database)
        self.rows: list[int] = []
        self.reads = 0
        self.losing = False

    async def append_row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        self.rows += [len(events)] if events else []
        stored = await super().append_row(events, epoch)
        return AppendResult(0, StoreUnavailable("the answer was lost")) if self.losing else stored

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]:
        self.reads += 1
        return await super().load(account_id, after=after)

    def walk(
        self,
        account_id: str,
        *,
        after: int = 0,
        to: int | None = None,
        keys: Mapping[str, Subject] | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        self.reads += 1
        return super().walk(account_id, after=after, to=to, keys=keys)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Watched]:
    store = Watched(settings)
    yield store
    await store.close()


@pytest.fixture
async def service(store: Watched) -> AccountService:
    service = account_service(store)
    await service.open()
    return service


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Replicas]:
    async with replicas(settings) as both:
        yield both


async def new(service: AccountService, money: int = 0) -> str:
    return (await service.create("Ada", money, CONTEXT)).after.id


async def together(
    service: AccountService, account: str, commands: Sequence[tuple[Command, CommandContext]]
) -> list[Done[Account] | BaseException]:
    """Send them at the same time; what became of each."""
    tasks = (service.execute(account, command, context) for command, context in commands)
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_those_that_wait_are_appended_together(
    service: AccountService, store: Watched
) -> None:
    account = await new(service)
    done = await together(service, account, [(Deposit(n), CONTEXT) for n in range(1, 101)])
    assert sum(store.rows) == 101
    assert len(store.rows) < 10
    assert store.reads == 0
    assert [each.after.version for each in done if isinstance(each, Done)] == [*range(2, 102)]
    assert fold(account, await store.load(account)).state.balance == 5050


async def test_a_lone_command_waits_for_nobody_and_reads_nothing(
    service: AccountService, store: Watched
) -> None:
    account = await new(service)
    for _ in range(5):
        await service.execute(account, Deposit(1), CONTEXT)
    assert store.rows == [1] * 6
    assert store.reads == 0


async def test_an_append_proves_a_refusal_as_well_as_a_read(
    service: AccountService, store: Watched
) -> None:
    account = await new(service, 1)
    results = await together(service, account, [(Withdraw(1), CONTEXT)] * 30)
    assert sum(isinstance(each, Done) for each in results) == 1
    assert sum(isinstance(each, InsufficientFunds) for each in results) == 29
    assert store.reads <= 1


async def test_each_has_its_own_answer(service: AccountService, store: Watched) -> None:
    """In one row: some refused for want of money, of the right version, or for their key."""
    chance = random.Random(7)
    account, elsewhere = await new(service), await new(service)
    await service.execute(elsewhere, Deposit(1), CommandContext("c", "taken", "another request"))
    for number in range(rounds(6, 60)):
        before = (await service.get(account)).version
        commands: list[tuple[Command, CommandContext]] = []
        for n in range(40):
            money = chance.randint(1, 20)
            key = "taken" if chance.random() < 0.1 else f"{number} {n}"
            tags = frozenset({str(before + chance.randint(0, 30))})
            condition = Condition(tags) if chance.random() < 0.2 else None
            context = chance.choice([CONTEXT, CommandContext("c", key, "request", condition)])
            command = Deposit(money) if chance.random() < 0.5 else Withdraw(money)
            commands.append((command, context))
        results = await together(service, account, commands)
        await explained(store, account, before, commands, results)


async def explained(
    store: EventStore,
    account: str,
    before: int,
    commands: Sequence[tuple[Command, CommandContext]],
    results: Sequence[Done[Account] | BaseException],
) -> None:
    """Every outcome is true of a state that the account had meanwhile, what was done of its own."""
    events = await store.load(account)
    states = [fold(account, events[:version]) for version in range(before, len(events) + 1)]
    done = [each.after for each in results if isinstance(each, Done)]
    assert sorted(each.version for each in done) == [state.version for state in states[1:]]
    for (command, context), result in zip(commands, results, strict=True):
        match result:
            case Done([event], state):
                assert state == states[state.version - before]
                assert event == events[state.version - 1]
                assert isinstance(command, Deposit | Withdraw)
                assert event["body"]["money"] == command.money
                assert event.get("idempotency_key") == context.key
                assert context.condition is None or context.condition.admits(state.version - 1)
            case InsufficientFunds():
                assert isinstance(command, Withdraw)
                assert min(each.state.balance for each in states) < command.money
            case VersionMismatch(version=version):
                assert context.condition is not None
                assert not context.condition.admits(version)
                assert version in [state.version for state in states]
            case KeyReused():
                assert context.key == "taken"
            case unexpected:
                raise AssertionError(unexpected)


async def test_what_follows_one_that_is_not_stored_is_decided_on_what_is(
    service: AccountService,
) -> None:
    """The first would take the last coin if its key were free; so the second gets it."""
    account, elsewhere = await new(service, 1), await new(service)
    await service.execute(elsewhere, Deposit(1), CommandContext("c", "taken", "another request"))
    first, second, third = await together(
        service,
        account,
        [
            (Withdraw(1), CommandContext("c", "taken", "request")),
            (Withdraw(1), CONTEXT),
            (Deposit(1), CONTEXT),
        ],
    )
    assert isinstance(first, KeyReused)
    assert isinstance(second, Done)
    assert isinstance(third, Done)
    assert (second.after.state.balance, third.after.state.balance) == (0, 1)


async def test_another_replicas_event_in_between_is_seen(
    service: AccountService, store: Watched
) -> None:
    account, other = await new(service, 5), account_service(store)
    await other.open()
    await other.execute(account, Withdraw(5), CONTEXT)
    results = await together(service, account, [(Withdraw(5), CONTEXT), (Deposit(3), CONTEXT)])
    assert isinstance(results[0], InsufficientFunds)
    assert isinstance(results[1], Done)
    assert results[1].after == await other.get(account)


async def test_a_row_whose_answer_is_lost_is_unknown_to_all_of_it(
    service: AccountService, store: Watched
) -> None:
    account = await new(service)
    store.losing = True
    results = await together(service, account, [(Deposit(1), CONTEXT)] * 5)
    assert [type(each) for each in results] == [StoreUnavailable] * 5
    store.losing = False
    after = await service.execute(account, Deposit(1), CONTEXT)
    assert after.after == await service.get(account)


async def test_callers_who_go_away_take_nobody_along(
    service: AccountService, store: Watched
) -> None:
    account = await new(service)
    tasks = [asyncio.create_task(service.execute(account, Deposit(1), CONTEXT)) for _ in range(60)]
    for task in tasks[::3]:
        asyncio.get_running_loop().call_later(random.uniform(0, 0.02), task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    stayed = [each for number, each in enumerate(results) if number % 3]
    assert all(isinstance(each, Done) for each in stayed)
    assert (await service.get(account)).version >= 1 + len(stayed)
    assert [e["version"] for e in await store.load(account)] == [
        *range(1, (await service.get(account)).version + 1)
    ]


async def test_replicas_share_a_hot_account(bank: Replicas) -> None:
    """Neither is kept out by the other, however busy that is: but for the first half second, in
    which who came first does not know yet that there is another."""
    account, number = await opened(bank.bank), rounds(150, 1500)
    done, before = [0, 0], 0
    known = asyncio.get_running_loop().time() + 0.5

    async def client(which: int) -> None:
        nonlocal before
        while min(done) < number:
            answer = await send(bank[which], deposit(account))
            assert answer.status == 200 or answer.problem == "too-many-conflicts", answer
            if asyncio.get_running_loop().time() > known:
                done[which % 2] += answer.status == 200
            else:
                before += answer.status == 200

    await asyncio.gather(*(client(n) for n in range(24)))
    assert min(done) > sum(done) // 10
    assert (await bank.read(account))["balance"] == sum(done) + before


async def test_transfers_and_rows_take_turns(bank: Replicas) -> None:
    """To and fro between two accounts that are busy on both replicas: none waits for ever."""
    accounts = [await opened(bank.bank, 1000) for _ in "ab"]
    over = asyncio.Event()

    async def busy(number: int) -> int:
        paid = 0
        while not over.is_set():
            answer = await send(bank[number], deposit(accounts[number // 2 % 2]))
            paid += answer.status == 200
        return paid

    async def move(number: int) -> None:
        payer, payee = accounts if number // 2 % 2 else accounts[::-1]
        for _ in range(rounds(2, 30)):
            answer = await send(bank[number], transfer(payer, payee))
            while answer.problem == "too-many-conflicts":
                answer = await send(bank[number], transfer(payer, payee))
            assert answer.status == 200, answer

    async with asyncio.timeout(240):
        paying = [asyncio.create_task(busy(number)) for number in range(8)]
        await asyncio.gather(*(move(number) for number in range(4)))
        over.set()
        paid = sum(await asyncio.gather(*paying))
    balances = [(await bank.read(account))["balance"] for account in accounts]
    assert sum(balances) == 2000 + paid


async def test_a_broken_way_to_mongodb_doubles_and_loses_nothing(
    settings: Settings, bank: Replicas
) -> None:
    """Commands with keys are sent again until they are answered, here or by another replica."""
    hot, other = await opened(bank.bank), await opened(bank.bank, 1_000_000)
    accepted: dict[str, Answer] = {}
    stop = asyncio.Event()
    commands = [deposit(hot, 3), deposit(hot, 5), withdraw(hot, 2), transfer(other, hot, 7)]
    async with TcpProxy(settings.mongodb_url) as way:
        broken = settings.model_copy(update={"mongodb_url": way.url})
        async with serving(create_app(broken)) as shaken:

            async def client(number: int) -> None:
                for turn in itertools.count():
                    if stop.is_set():
                        return
                    key, command = str(ULID()), commands[(number + turn) % len(commands)]
                    answer = await send(shaken, command, key=key)
                    while answer.status in (409, 503):
                        answer = await send(shaken, command, key=key)
                    again = await send(bank[turn], command, key=key)
                    if answer.status == 200:
                        assert again.replayed
                        assert again.content == answer.content
                        accepted[key] = answer
                    else:
                        assert answer.problem == "insufficient-funds"

            clients = [asyncio.create_task(client(number)) for number in range(12)]
            for _ in range(rounds(3, 15)):
                target = len(accepted) + 30
                await eventually(lambda target=target: len(accepted) >= target, seconds=60)  # type: ignore[misc]
                await way.cut()
                await way.mend()
            stop.set()
            await asyncio.gather(*clients)
    events = await bank.store.load(hot)
    account = fold(hot, events)
    assert (await bank.read(hot))["balance"] == account.state.balance
    keys = [event["idempotency_key"] for event in events if "idempotency_key" in event]
    assert len(keys) == len(set(keys))
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))


async def test_what_was_decided_before_the_guards_were_lost_is_not_stored(
    service: AccountService, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are lost, and there again, while the state is read on which it is decided."""
    account, other = await new(service, 5), await new(service, 5)
    states = service.commands._of(ACCOUNT).states
    present = states.present

    async def late(account_id: str) -> Versioned[Account]:
        state = await present(account_id)
        store.guards.epoch += 1
        return state

    monkeypatch.setattr(states, "present", late)
    store.guards.epoch += 1  # nothing is remembered
    stored = await store.count()
    for command in (
        service.execute(account, Deposit(1), CONTEXT),
        service.transfer(account, other, 1, CONTEXT),
    ):
        with pytest.raises(StoreUnguarded):
            await command
    assert await store.count() == stored
