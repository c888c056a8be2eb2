"""A bank that does not keep the projection `balance` is whole: its first projection is in its
place."""

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from pipeline.banking.statement import STATEMENT
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.up import balances_url, running
from pipeline.eventstore import EventStore
from pipeline.search.scan import IndexScan
from pipeline.support.settings import Settings
from tests.bank import accounts, append, exact
from tests.harness import LONG_LANE, Role, eventually

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Settings]:
    """With some entries, on the session's servers."""
    changed = settings.model_copy(update={"projections": "statement", "partitions": 3})
    said: list[tuple[str, str]] = []
    store = EventStore(changed.mongodb, changed.mongodb_database)
    await store.setup()
    await append(store, accounts(20))
    async with running(changed, lambda *line: said.append(line), without=tuple(SERVER_BINARIES)):
        await eventually(lambda: exact(changed.elasticsearch_url, store, STATEMENT))
        yield changed
    await store.close()


async def run(settings: Settings, *words: str) -> tuple[int, str]:
    async with Role(settings, "bank", *words) as command:
        return await command.wait(), command.log()


async def nothing_waits(http: aiohttp.ClientSession) -> bool:
    """An exact index is not enough: a lag is unknown until the worker has read the markers."""
    for path, field in (("/partitions", "data"), ("/pipeline", "partitions")):
        async with http.get(path) as answer:
            lags = [each["lag_events"] for each in (await answer.json())[field]]
            assert lags == [0, 0, 0], (path, lags)
    return True


@pytest.mark.drill
async def test_all_that_looks_at_it_looks_at_the_first_projection(bank: Settings) -> None:
    async with aiohttp.ClientSession(balances_url(bank)) as http:
        async with http.get("/readyz") as answer:
            assert answer.status == 200, await answer.text()
        await eventually(lambda: nothing_waits(http))
        async with http.get("/pipeline") as answer:
            found = await answer.json()
            assert [each["projection"] for each in found["projected"]] == ["statement"]
        async with http.get("/parked") as answer:
            assert (await answer.json())["data"] == []
    code, said = await run(bank, "partitions", "--json")
    assert (code, len(json.loads(said))) == (0, 3)
    code, said = await run(bank, "status")
    assert code == 0, said
    code, said = await run(bank, "rebuild", "--wait")
    assert code == 0, said


@LONG_LANE
@pytest.mark.drill
async def test_verify_judges_money_and_the_documents_there_are(bank: Settings) -> None:
    code, said = await run(bank, "verify", "--json")
    assert code == 0, said
    verdicts = {each["number"]: each for each in json.loads(said)["verdicts"]}
    assert verdicts.keys() == {1, 2, 3, 4, 5, 8, 13, 16, 17, 18, 19}
    assert verdicts[4]["figure"] == "60 documents"

    scan = IndexScan(bank.elasticsearch, "statement")
    (wrong, *_), found = await anext(scan.ids()), {}
    found = await scan.documents([wrong])
    await scan.close()
    body = {**found[wrong], "balance": 77}
    async with (
        aiohttp.ClientSession(bank.elasticsearch_url) as http,
        http.put(f"/statement-1/_doc/{wrong}?refresh=true", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
    code, said = await run(bank, "verify", "--patience", "1")
    assert code == 1
    assert f"statement: document {wrong}: differs" in " ".join(said.split())
    code, said = await run(bank, "verify", "--patience", "1", "--repair")
    assert code == 0, said
    assert (await run(bank, "verify"))[0] == 0
