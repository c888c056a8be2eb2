"""`bank trace`: a command's way, found by its correlation id, and what can't be known of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pymongo
import pytest
from ulid import ULID

from api.accounts.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.coordination.partitioning import Partitioning, ensure_log
from pipeline.eventstore import EventStore, TookTooLong
from pipeline.messaging import JetStream
from pipeline.model.claims import TAKEN
from pipeline.model.events import Event, new_event, partition_of, slot_of
from pipeline.operations.trace.log_position import StillSearching, logged
from pipeline.operations.trace.search import (
    CLOCKS,
    REQUEST,
    Span,
    by_time,
    made_at,
    of_account,
    search,
)
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.bank import accounts, append, history, publish
from tests.commands import Command, create, opened, transfer
from tests.harness import LONG_LANE, Role, eventually
from tests.names import STREAM
from tests.ports import free_port
from tests.services import Client, serving

Start = Callable[..., Awaitable[Role]]

ROOT: Final = Path(__file__).parents[2]
NOW = datetime(2026, 11, 27, 14, tzinfo=UTC)


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"projections": "balance statement", "partitions": 4})


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def traced(role: Start, *words: str, **environ: str) -> tuple[int, str]:
    """The exit code of the command, and what it prints."""
    command = await role("bank", "trace", *words, **environ)
    return await command.wait(60), command.log()


async def as_json(role: Start, *words: str) -> dict[str, Any]:
    code, shown = await traced(role, "--json", *words)
    assert code == 0, shown
    found: dict[str, Any] = json.loads(shown)
    return found


# ------------------------------------------------------------------ where is searched


class Log:
    """A store that notes where it is searched, and has one event made at a time."""

    def __init__(self, made: datetime | None = None, slow: bool = False) -> None:
        self.made, self.slow, self.searched = made, slow, list[Span]()

    async def correlated(
        self, correlation_id: str, since: datetime, until: datetime, *, seconds: float
    ) -> list[Event]:
        if self.slow and self.searched:
            raise TookTooLong
        self.searched.append((since, until))
        found = self.made is not None and since <= self.made < until
        return [new_event("A", 1, DEPOSITED, {"money": 1})] if found else []

    async def ping(self) -> None:
        pass

    async def head(self, account_id: str) -> int:
        raise AssertionError("nobody asks for an account")

    async def walk(
        self, account_id: str, *, after: int = 0, to: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        raise AssertionError("nobody asks for an account")
        yield []


class LongAccount(Log):
    """A store with one account whose events are a second apart, the last of them made now. Those of
    the versions `missing` are not there. `hangs`: it does not answer below that version."""

    def __init__(self, versions: int, missing: range = range(0), hangs: int = 0) -> None:
        super().__init__()
        self.versions, self.missing, self.hangs = versions, missing, hangs
        self.read = 0
        self.one = new_event("A", 1, DEPOSITED, {"money": 1})

    def event(self, version: int) -> Event:
        made = NOW.replace(tzinfo=None) - timedelta(seconds=self.versions - version)
        return {
            **self.one,
            "_id": f"{version:06}",
            "version": version,
            "correlation_id": f"order {version}",
            "created_at": made,
        }

    async def head(self, account_id: str) -> int:
        return self.versions

    async def walk(
        self, account_id: str, *, after: int = 0, to: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        if after < self.hangs:
            await asyncio.Event().wait()
        versions = [each for each in range(after + 1, (to or 0) + 1) if each not in self.missing]
        for at in range(0, len(versions), 1000):
            found = [self.event(each) for each in versions[at : at + 1000]]
            self.read += len(found)
            yield found


def id_of(made: datetime) -> str:
    return str(ULID.from_datetime(made))


async def test_an_id_of_the_service_is_searched_about_its_own_time() -> None:
    log, made = Log(NOW), NOW - timedelta(seconds=5)
    found = await by_time(log, id_of(made), None, NOW + timedelta(days=9), 60)
    assert (len(found.events), found.complete) == (1, True)
    assert log.searched == [(made - CLOCKS, made + REQUEST)]
    assert found.searched == log.searched[0]


async def test_what_is_not_there_is_searched_for_up_to_now() -> None:
    log, made, until = Log(), NOW - timedelta(days=9), NOW
    found = await by_time(log, id_of(made), None, until, 60)
    assert found.searched == (made - CLOCKS, until)
    assert not found.events


async def test_an_id_of_the_client_is_searched_back_from_now_in_all_of_the_time() -> None:
    log, since = Log(NOW - timedelta(seconds=5)), NOW - timedelta(hours=1)
    found = await by_time(log, "order 66", since, NOW, 60)
    starts, ends = [start for start, _ in log.searched], [end for _, end in log.searched]
    assert ends == [NOW, *starts[:-1]]
    assert starts[-1] == since
    assert len(starts) == 3
    assert found.searched == (since, NOW)
    assert len(found.events) == 1


async def test_what_there_was_no_time_for_is_not_said_to_be_searched() -> None:
    log = Log(slow=True)
    found = await by_time(log, "order 66", NOW - timedelta(hours=1), NOW, 60)
    assert not found.complete
    assert found.searched == log.searched[0]


async def test_without_a_time_nothing_is_searched() -> None:
    for given in ("order 66", "", id_of(NOW + timedelta(days=1))):
        with pytest.raises(ValueError, match="contains no time"):
            await by_time(Log(), given, None, NOW, 60)


def test_an_id_of_the_service_tells_its_time() -> None:
    assert made_at(id_of(NOW)) == NOW
    assert made_at("order 66") is None


async def test_the_store_finds_what_was_made_in_the_time_and_no_more(store: EventStore) -> None:
    histories = accounts(20, 2)
    await append(store, histories)
    wanted = histories[7][1]
    made = ULID.from_str(wanted["_id"]).datetime
    second = timedelta(seconds=1)

    async def found(since: datetime, until: datetime) -> list[Event]:
        return await store.correlated(wanted["correlation_id"], since, until, seconds=30)

    assert await found(made - second, made + second) == [wanted]
    assert await found(made, made + timedelta(milliseconds=1)) == [wanted]
    assert await found(made - second, made) == []
    assert await found(made + second, made + 2 * second) == []
    with pytest.raises(TookTooLong):
        await store.correlated("x", made - second, made + second, seconds=0.000001)


async def versions_of(account: LongAccount, correlation_id: str) -> tuple[list[int], bool]:
    found = await search(account, correlation_id, account_id="A", patience=0.5)
    return [each["version"] for each in found.events], found.complete


async def test_a_search_of_an_account_ends_with_the_patience() -> None:
    account = LongAccount(5000, hangs=2000)
    assert await versions_of(account, "order 4000") == ([4000], False)
    assert await versions_of(account, "order 1") == ([], False)
    assert await versions_of(LongAccount(5000), "order 1") == ([1], True)


async def test_an_account_is_not_read_from_before_the_time_in_the_id() -> None:
    account = LongAccount(5000)
    assert await versions_of(account, id_of(NOW - timedelta(seconds=5))) == ([], True)
    assert account.read == 2000


async def test_events_before_missing_versions_are_found() -> None:
    account = LongAccount(5000, missing=range(1500, 4500))
    assert await versions_of(account, "order 1499") == ([1499], True)
    assert await versions_of(account, "order 4500") == ([4500], True)


async def test_a_poison_event_of_an_account_is_found(store: EventStore) -> None:
    [event] = history("01J00000000000000000000000", 1)
    wrong: Any = {**event, "body": "poison"}
    await store.append(wrong)
    found = await of_account(store, event["correlation_id"], event["account_id"], 60)
    assert [each["_id"] for each in found.events] == [event["_id"]]


# ------------------------------------------------------------------ in the stream


async def test_a_message_is_found_by_the_time_in_whatever_partition_it_is(
    settings: Settings, js: JetStream
) -> None:
    await ensure_log(js, settings)
    events = [event for each in accounts(700, 2) for event in each]
    await publish(js, events, 4)
    state = await js.state(STREAM)
    assert state is not None
    event = events[-1]
    now, later = datetime.now(UTC), Partitioning(3, state.last, 4, 0, (1, 1, 1, 1))
    for partitioning in (Partitioning(4), later):
        found = await logged(js, partitioning, event, now, 30)
        assert found is not None
        assert found.sequence == len(events)
        assert found.subject == f"balance.{partition_of(event['slot'], 4)}"
        assert abs(datetime.fromisoformat(found.at) - now) < timedelta(minutes=1)
    [other] = history(str(ULID()), 1)
    assert await logged(js, Partitioning(4), other, now, 30) is None
    assert await logged(js, Partitioning(4), event, now + timedelta(hours=1), 30) is None
    with pytest.raises(StillSearching):
        await logged(js, Partitioning(4), event, now, 0)


# ------------------------------------------------------------------ the command


async def carrying(role: Start) -> Role:
    """A forwarder that leads, and a worker; what is stored from now on goes through the stream."""
    forwarder, _ = await role("bank", "forwarder"), await role("bank", "worker")
    asked = "to backfill from the store"
    await eventually(lambda: asked in forwarder.log(), seconds=60, message="the forwarder leads")
    return forwarder


def known(told: dict[str, Any]) -> bool:
    """All of the way is known, and the projections are beyond it."""
    return all(
        event["stream"]
        and all(at["passed"] and at["document_version"] for at in event["projections"])
        for event in told["events"]
    )


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_transfer_is_followed_to_both_accounts_documents(
    bank: Client, settings: Settings, js: JetStream, role: Start
) -> None:
    await carrying(role)
    source, target = await opened(bank, 10), await opened(bank, 1)
    command = transfer(source, target, 3)
    began = datetime.now(UTC)
    correlation_id = await sent(bank, command)

    async def arrived() -> dict[str, Any]:
        told = await as_json(role, correlation_id)
        assert known(told), json.dumps(told["events"])
        return told

    told = await eventually(arrived, seconds=120, message="all is known")
    paid, got = sorted(told["events"], key=lambda each: each["kind"], reverse=True)
    assert (paid["kind"], got["kind"]) == ("MoneyWithdrawn", "MoneyDeposited")
    assert (paid["account_id"], got["account_id"]) == (source, target)
    assert paid["transfer"]["id"] == got["transfer"]["id"]
    assert (paid["causation_id"], got["causation_id"]) == (None, paid["event_id"])
    for event in (paid, got):
        moments = [told["made_at"], event["stored_at"], event["stream"]["at"]]
        times = [datetime.fromisoformat(each) for each in moments]
        assert all(abs(each - began) < timedelta(minutes=1) for each in times)
        slot = slot_of(event["account_id"])
        assert event["stream"]["subject"] == f"balance.{partition_of(slot, 4)}"
        versions = [(at["projection"], at["document_version"]) for at in event["projections"]]
        assert versions == [("balance", 2), ("statement", 2)]
        assert [at["index"] for at in event["projections"]] == ["balance-1", "statement-1"]
        assert [at["parked"] for at in event["projections"]] == [None, None]

    code, shown = await traced(role, correlation_id)
    assert code == 0, shown
    for text in (source, target, paid["event_id"], "asked", "stored", "forwarded"):
        assert text in shown
    assert shown.count("the document is at version 2") == 4
    assert shown.count("passed: all up to") == 4


async def sent(bank: Client, command: Command, given: str | None = None) -> str:
    """The correlation id of a command that was executed."""
    headers = {"X-Correlation-ID": given} if given else {}
    async with bank.request(
        command.method, command.path, json=command.body, headers=headers
    ) as answer:
        assert answer.status in (200, 201), await answer.text()
        return answer.headers["X-Correlation-ID"]


async def test_an_id_of_the_client_is_found_by_account_or_time(bank: Client, role: Start) -> None:
    source, target = await opened(bank, 10), await opened(bank, 1)
    await sent(bank, transfer(source, target, 3), "order 66")
    await sent(bank, create("Ann", 5), "order 66")

    async def found(*words: str) -> list[str]:
        code, shown = await traced(role, "--json", "order 66", *words)
        assert code == 0, shown
        return [each["kind"] for each in json.loads(shown)["events"]]

    legs = ["MoneyWithdrawn", "MoneyDeposited"]
    assert await found("--account", source) == await found("--account", target) == legs
    assert await found() == await found("--since", "2m") == [*legs, "AccountCreated"]


async def test_what_is_not_there_is_said(bank: Client, role: Start) -> None:
    account = await opened(bank)
    for words in (["nobody's"], ["nobody's", "--account", account], [str(ULID())]):
        code, shown = await traced(role, *words)
        assert code == 1
        assert f"bank: no event of {words[0]}" in shown
    for since, why in (("yesterday", "such as 30m"), ("2100-01-01", "yet to come")):
        code, shown = await traced(role, "nobody's", "--since", since)
        assert (code, why in shown) == (2, True), shown


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_an_event_that_waits_is_told_to_wait(
    bank: Client, settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    forwarder = await carrying(role)
    account = await opened(bank, 5)

    async def arrived() -> bool:
        async with bank.get(f"/{account}/events") as answer:
            [event] = (await answer.json())["data"]
        return known(await as_json(role, event["correlation_id"]))

    await eventually(arrived, seconds=120, message="the first event arrived")
    await forwarder.stop()
    correlation_id = await sent(bank, Command("POST", "/deposit", {"id": account, "money": 1}))
    [event] = (await as_json(role, correlation_id))["events"]
    assert event["stream"] is None
    assert "waits for a forwarder" in event["stream_unknown"]
    balance, statement = event["projections"]
    assert balance["passed"] is None
    assert (balance["document_version"], statement["document_version"]) == (1, None)

    await ParkedAccountList(js, BALANCE).park(
        account, version=2, event_id="x", kind="y", reason="sick"
    )
    code, shown = await traced(role, correlation_id)
    assert code == 0, shown
    assert "PARKED at version 2 since" in shown
    assert "there is no document" in shown
    assert "the document is at version 1, which is older" in shown

    [first, _] = await store.load(account)
    await js.api(f"STREAM.PURGE.{STREAM}")
    [event] = (await as_json(role, first["correlation_id"]))["events"]
    assert event["stream"] is None
    assert event["stream_unknown"]


async def test_what_a_projection_is_not_about_is_said_to_be_left_out(
    store: EventStore, role: Start
) -> None:
    event = new_event("claim-1", 1, TAKEN, {"by": "parcel-1"})
    await store.append(event)
    both = {"BANK_PROJECTIONS": "balance tests.apps.post:WITHOUT_CLAIMS", "PYTHONPATH": str(ROOT)}
    words = (event["correlation_id"], "--account", "claim-1")
    code, shown = await traced(role, *words, **both)
    assert code == 0, shown
    assert shown.count("left out: the projection is not about such events") == 1
    code, shown = await traced(role, "--json", *words, **both)
    [told] = json.loads(shown)["events"]
    left_out = {at["projection"]: at["left_out"] for at in told["projections"]}
    assert left_out == {"balance": False, "places": True}


@LONG_LANE
async def test_servers_that_are_down_are_named_and_the_rest_is_shown(
    bank: Client, role: Start
) -> None:
    correlation_id = await sent(bank, create("Ann", 5))
    nowhere = {
        f"BANK_{name}_URL": f"{scheme}://127.0.0.1:{free_port()}"
        for name, scheme in (("NATS", "nats"), ("ELASTICSEARCH", "http"))
    }
    code, shown = await traced(role, correlation_id, **nowhere)
    assert code == 1
    assert "AccountCreated, version 1" in shown
    assert "NATS does not answer" in shown
    assert "Elasticsearch does not answer" in shown
    assert "bank: no answer from Elasticsearch, NATS" in shown
    mongodb = {"BANK_MONGODB_URL": f"mongodb://127.0.0.1:{free_port()}"}
    code, shown = await traced(role, correlation_id, **mongodb)
    assert code == 1
    assert "bank: MongoDB does not answer" in shown


async def test_whatever_a_hand_wrote_is_shown(
    settings: Settings, store: EventStore, role: Start
) -> None:
    [event] = history("01J00000000000000000000000", 1)
    wrong: Any = {**event, "created_at": "[red]yesterday", "body": {"transfer": 7}, "kind": "[x]"}
    with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as client:
        client[settings.mongodb_database]["events"].insert_one(wrong)
        bare = {"_id": str(ULID()), "correlation_id": event["correlation_id"], "slot": "x"}
        client[settings.mongodb_database]["events"].insert_one(bare)
    code, shown = await traced(role, event["correlation_id"])
    assert code == 0, shown
    assert "[x], version 1" in shown
    assert "its created_at is no time" in shown
    assert "never: it is no valid event: " in shown
    told = await as_json(role, event["correlation_id"])
    assert [each["account_id"] for each in told["events"]] == [event["account_id"], None]
