"""Both services under requests made from their OpenAPI documents: no 5xx, nothing undescribed."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from schemathesis import Case

from api.accounts.app import create_app as accounts
from api.aggregates.app import create_app as commands
from api.balances.app import create_app as balances
from api.openapi.routes import CONTRACT
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.banking.statement import STATEMENT
from pipeline.messaging import JetStream
from pipeline.model.events import new_event
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.api.accounts.test_accounts_api import opened, send
from tests.conftest import beside
from tests.fuzz import Change, fuzz
from tests.harness import rounds
from tests.services import Client, serving
from tests.stores import stores
from tests.tables.test_parked_accounts import park

pytestmark = [
    pytest.mark.timeout(rounds(300, 3600)),
    # The services' drivers draw random numbers meanwhile, in the same process.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

ADA, BOB = "01J00000000000000000000000", "01J00000000000000000000001"


async def fuzzed(client: Client, change: Change) -> set[str]:
    """Fuzz the service; returns the routes that answered what they are there for."""
    assert client.app is not None
    url = str(client.make_url("")).rstrip("/")
    document = await (await client.get("/openapi.json")).json()
    seen = await asyncio.to_thread(fuzz, url, document, change)
    routes = {f"{each.method} {each.path}" for each in client.app[CONTRACT].routes}
    assert routes == {route for route, _ in seen}
    return {route for route, status in seen if status < 300}


def acquainted(**known: Sequence[str]) -> Change:
    """Most requests name something that exists, for all others end in the same 404. What waits
    does so for a moment only."""

    def likely(given: str, those: Sequence[str]) -> str:
        return (*those, given)[sum(map(ord, given)) % (len(those) + 1)]

    def change(case: Case[Any]) -> None:
        for part in (case.path_parameters, case.body):
            if isinstance(part, dict):
                for name, those in known.items():
                    if isinstance(given := part.get(name), str):
                        part[name] = likely(given, those)
        if case.query and re.fullmatch("[0-9.]+", str(case.query.get("timeout"))):
            case.query["timeout"] = "0.1"

    return change


async def test_the_account_service(settings: Settings) -> None:
    async with serving(accounts(settings)) as client:
        ids = [await opened(client, money) for money in (0, 10, 2**53 - 1, 1, 1)]
        await send(client, "/freeze", id=ids[-2])
        await send(client, "/withdraw", id=ids[-1], money=1)
        await send(client, "/close", id=ids[-1])
        known = {"id": ids, "from": ids, "to": ids, "name": ["account-frozen"]}
        answered = await fuzzed(client, acquainted(**known))
        assert {"POST /create", "GET /{id}", "GET /{id}/events"} <= answered


async def test_the_command_service_of_another_application(settings: Settings) -> None:
    shop = beside(settings, "tests.api.aggregates.orders:ORDERS", "lines")
    async with serving(commands(shop)) as client:
        known = {"id": ["order-1", "order-2"], "name": ["sold-out"]}
        for each in known["id"]:
            body = {"command": "Place", "item": "tea"}
            assert (await client.post(f"/aggregates/order/{each}", json=body)).status == 200
        answered = await fuzzed(client, acquainted(**known))
        path = "/aggregates/order"
        assert {f"POST {path}", f"POST {path}/{{id}}", f"GET {path}/{{id}}"} <= answered


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_the_balance_service(settings: Settings) -> None:
    for projection in (BALANCE, STATEMENT):
        async with stores(settings, projection) as world:
            created = new_event(ADA, 1, CREATED, {"owner": "Ada", "money": 1})
            await world.table().apply([created, new_event(ADA, 2, DEPOSITED, {"money": 1})])
            await world.elastic.client.indices.refresh(index=projection.name)
    js = await JetStream.connect(settings.nats_url, "test")
    await park(ParkedAccountList(js, BALANCE), BOB)
    await js.close()
    async with serving(accounts(settings)) as commands_of:
        at = str(commands_of.make_url("")).rstrip("/")
        await fuzzed_balances(settings.model_copy(update={"accounts_url": at}))


async def fuzzed_balances(settings: Settings) -> None:
    keeping = settings.model_copy(update={"projections": "balance statement"})
    async with serving(balances(keeping)) as client:
        rebuild = (await (await client.post("/balance/rebuild")).json())["id"]
        await client.delete(f"/rebuilds/{rebuild}")
        await client.put("/subscriptions/not-parked", json={"position": "beginning"})
        answered = await fuzzed(
            client,
            acquainted(id=[ADA, BOB, rebuild], projection=["balance"], name=["not-parked"]),
        )
        assert {"GET /", "GET /{id}", "GET /{id}/statement", "GET /parked"} <= answered
        assert {"GET /events", "GET /subscriptions/{name}", "GET /schemas"} <= answered
