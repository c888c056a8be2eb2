"""`bank verify` on a bank at work: no false alarm under load, and what is broken is found."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
from nats.errors import TimeoutError as NatsTimeout

from pipeline.banking.balance import BALANCE
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.traffic import Traffic, session
from pipeline.embedded.up import accounts_url, running
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStreamError
from pipeline.model.events import SLOTS
from pipeline.operations.checker import live
from pipeline.operations.checker.ledger import Ledger
from pipeline.operations.checker.live import check_live
from pipeline.support.settings import Settings
from tests.harness import Role, eventually, rounds


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Settings]:
    """A whole bank on the session's servers."""
    said: list[str] = []

    def hear(role: str, line: str) -> None:
        said.append(f"{role}: {line}")

    async with running(settings, hear, without=tuple(SERVER_BINARIES)):
        yield settings


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_verify_while_commands_flow_and_after_a_break(bank: Settings) -> None:
    async with session(accounts_url(bank)) as http:
        traffic = Traffic(http, seed=3)
        await traffic.open_accounts(40)
        load = asyncio.create_task(traffic.send_commands(rounds(300, 20_000)))
        async with Role(bank, "bank", "rebuild") as rebuild:
            assert await rebuild.wait(120) == 0, rebuild.log()
        checks = 0
        while not load.done() or not checks:
            report = await check_live(bank)
            assert report.holds, [each for each in report.verdicts if each.holds is False]
            checks += 1
        await load
    assert traffic.surprises == []

    async def shown() -> bool:
        figures = (await check_live(bank)).figures
        return figures.documents == figures.accounts == 40 and not figures.lag_events

    await eventually(shown, seconds=120)
    async with Role(bank, "bank", "verify", "--json") as sound:
        assert await sound.wait(60) == 0, sound.log()
        assert json.loads(sound.log())["holds"] is True
    owners = await _owners(bank)
    assert owners == await _folded(bank)

    await _forge(bank, traffic.accounts[0])
    async with Role(bank, "bank", "verify", "--patience", "1") as broken:
        assert await broken.wait(60) == 1, broken.log()
    async with Role(bank, "bank", "verify", "--patience", "1", "--json") as broken:
        assert await broken.wait(60) == 1
        verdicts = json.loads(broken.log())["verdicts"]
    assert [verdict["number"] for verdict in verdicts if verdict["holds"] is False] == [4]
    assert traffic.accounts[0] in verdicts[3]["examples"][0]
    assert await _owners(bank) != owners
    async with Role(bank, "bank", "verify", "--repair", "--patience", "1") as repaired:
        assert await repaired.wait(60) == 0, repaired.log()
    assert await _owners(bank) == owners


async def _owners(settings: Settings) -> dict[str, tuple[int, int]]:
    """Accounts and money by owner, as the balance service shows them."""
    at = f"http://127.0.0.1:{settings.balances_port}"
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as there,
        there.post("/balance/_refresh"),
        aiohttp.ClientSession(at) as http,
        http.get("/projections/owners?limit=100") as answer,
    ):
        page = await answer.json()
        return {each["id"]: (each["shares"], each["sums"]["balance"]) for each in page["data"]}


async def _folded(settings: Settings) -> dict[str, tuple[int, int]]:
    """The same from the events."""
    found: dict[str, tuple[int, int]] = {}
    store = EventStore(settings.mongodb, settings.mongodb_database)
    async for account in Ledger().walk(store.replay(range(SLOTS))):
        accounts, money = found.get(str(account.owner), (0, 0))
        found[str(account.owner)] = accounts + 1, money + account.balance
    await store.close()
    return found


async def _forge(settings: Settings, account: str) -> None:
    """Give an account a balance that it has not."""
    async with aiohttp.ClientSession(settings.elasticsearch_url) as http:
        async with http.get(f"/balance/_source/{account}") as answer:
            document = await answer.json()
        document["balance"] += 1
        async with http.put(f"/balance/_doc/{account}", json=document) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NatsTimeout(), "NATS went away: nats: timeout"),
        (JetStreamError(10008, "no leader"), "NATS answers with an error: no leader (10008)"),
    ],
)
async def test_jetstream_that_goes_away_meanwhile_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr(live, "stream_guards", AsyncMock(side_effect=error))
    monkeypatch.setattr(live, "ELECTION", 0.0)
    with pytest.raises(live.Unreachable, match=re.escape(told)):
        await live.check_stores(Mock())


async def test_a_consumer_that_nobody_answers_for_is_none_that_is_not_there() -> None:
    """Else what is under way would look lost while servers elect a leader."""
    js = Mock()
    stores = live.Stores(Mock(), Mock(), js, frozenset(), Mock(), BALANCE)
    js.api = AsyncMock(side_effect=JetStreamError(10014, "consumer not found"))
    assert await stores._waiting(0) == 0
    js.api = AsyncMock(side_effect=JetStreamError(10008, "temporarily unavailable"))
    with pytest.raises(JetStreamError):
        await stores._waiting(0)
