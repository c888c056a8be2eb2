"""`POST /commands/…`: commands of the page, handed to the account service and answered by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestServer

from api.accounts.app import create_app as accounts
from api.balances import account_commands
from api.balances.app import create_app as balances
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings, SettingsError, load
from tests.harness import eventually
from tests.keys import guarded, holder, on
from tests.ports import free_port
from tests.services import NOBODY, Client, problem, serving

OPEN = {"owner": "Ada", "money": 100}


def at(client: Client) -> str:
    return str(client.make_url("")).rstrip("/")


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    """The service of the page, with the account service behind it."""
    async with serving(accounts(settings)) as commands:
        told = settings.model_copy(update={"accounts_url": at(commands)})
        async with serving(balances(told), ready=False) as client:
            yield client


async def send(client: Client, command: str, body: dict[str, Any], **headers: str) -> Any:
    """A command that must succeed."""
    async with client.post(f"/commands/{command}", json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def test_commands_are_executed_and_answered_as_by_the_account_service(bank: Client) -> None:
    theirs = {"X-Correlation-ID": "from/the page"}
    async with bank.post("/commands/create", json=OPEN, headers=theirs) as answer:
        opened = await answer.json()
        assert (answer.status, answer.headers["ETag"]) == (201, '"1"')
        assert answer.headers["Location"] == f"/{opened['id']}"
        assert answer.headers["X-Correlation-ID"] == "from/the page"
    other = (await send(bank, "create", OPEN))["id"]
    account = {"id": opened["id"]}
    assert (await send(bank, "deposit", {**account, "money": 5}))["balance"] == 105
    assert (await send(bank, "withdraw", {**account, "money": 15}))["balance"] == 90
    await send(bank, "transfer", {"from": opened["id"], "to": other, "money": 40})
    held = await send(bank, "hold", {**account, "money": 30, "seconds": 60})
    assert (held["balance"], held["available"]) == (50, 20)
    await send(bank, "void", {**account, "hold": held["hold"]["id"]})
    held = await send(bank, "hold", {**account, "money": 30, "seconds": 60})
    assert (await send(bank, "capture", {**account, "hold": held["hold"]["id"]}))["balance"] == 20
    async with bank.get(f"/events/{opened['id']}/1") as answer:
        assert (await answer.json())["event"]["correlation_id"] == "from/the page"

    poor = await bank.post("/commands/withdraw", json={**account, "money": 21})
    told = await problem(poor, 422, "insufficient-funds")
    assert told["instance"] == "/withdraw"  # it is the account service's own answer
    wrong = await problem(
        await bank.post("/commands/deposit", json={**account, "money": 1.5}), 400, "invalid-input"
    )
    assert [each["pointer"] for each in wrong["errors"]] == ["#/money"]
    await problem(await bank.post("/commands/freeze", json=account), 404, "not-found")


async def test_a_repeated_key_pays_once(bank: Client) -> None:
    account_id = (await send(bank, "create", OPEN))["id"]
    paid = {"id": account_id, "money": 7}
    for replayed in (None, "true"):
        async with bank.post(
            "/commands/deposit", json=paid, headers={"Idempotency-Key": "form 1"}
        ) as answer:
            assert (answer.status, (await answer.json())["balance"]) == (200, 107)
            assert answer.headers.get("Idempotent-Replayed") == replayed
    other = await bank.post(
        "/commands/deposit", json={**paid, "money": 8}, headers={"Idempotency-Key": "form 1"}
    )
    await problem(other, 422, "idempotency-key-reused")
    await problem(
        await bank.post("/commands/deposit", json=paid, headers={"Idempotency-Key": "\xe9"}),
        400,
        "invalid-idempotency-key",
    )


@pytest.mark.parametrize(
    "given",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Referer": "http://evil.example/x"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ],
)
async def test_without_keys_a_page_of_another_site_is_refused(
    settings: Settings, given: dict[str, str]
) -> None:
    async with serving(balances(settings), ready=False) as client:
        await problem(
            await client.post("/commands/create", json=OPEN, headers=given), 403, "cross-site"
        )
        form = await client.post("/commands/create", data={"owner": "Ada"})
        await problem(form, 415, "unsupported-media-type")


async def is_known(client: Client, headers: dict[str, str]) -> bool:
    async with client.get(f"/{NOBODY}", headers=headers) as answer:
        return answer.status != 401


async def test_the_key_of_the_caller_decides_on_both_services(settings: Settings) -> None:
    theirs = {role: await holder(settings, role) for role in Role if role is not Role.CUSTOMER}
    async with (
        guarded(accounts(on(settings))) as commands,
        guarded(balances(on(settings, accounts_url=at(commands)))) as client,
    ):
        await problem(await client.post("/commands/create", json=OPEN), 401, "key-required")
        for role in (Role.VIEWER, Role.OPERATOR):
            refused = await client.post("/commands/create", json=OPEN, headers=theirs[role])
            await problem(refused, 403, "not-allowed")
        account_id = (await send(client, "create", OPEN, **theirs[Role.TELLER]))["id"]

        customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({account_id}))
        for each in (commands, client):
            await eventually(partial(is_known, each, customer))
        drawn = {"id": account_id, "money": 1}
        assert (await send(client, "withdraw", drawn, **customer))["balance"] == 99
        for command, body in (
            ("withdraw", {**drawn, "id": NOBODY}),
            ("transfer", {"from": NOBODY, "to": account_id, "money": 1}),
            ("deposit", drawn),
        ):
            refused = await client.post(f"/commands/{command}", json=body, headers=customer)
            told = await problem(refused, 403, "not-allowed")
            assert told["instance"] == f"/commands/{command}"  # it went no further
        path = f"/events/{account_id}/2"
        async with client.get(path, headers=theirs[Role.TELLER]) as answer:
            assert (await answer.json())["event"]["actor"]["role"] == "customer"


async def test_an_account_service_that_wants_a_key_is_not_got_round(settings: Settings) -> None:
    async with guarded(accounts(on(settings))) as commands:
        told = settings.model_copy(update={"accounts_url": at(commands)})
        async with serving(balances(told), ready=False) as client:
            await problem(await client.post("/commands/create", json=OPEN), 401, "key-required")


async def test_an_account_service_that_is_away(settings: Settings) -> None:
    gone = settings.model_copy(update={"accounts_port": free_port()})
    async with serving(balances(gone), ready=False) as client:
        told = await problem(
            await client.post("/commands/create", json=OPEN), 503, "accounts-unavailable"
        )
        assert told["missing"] == ["accounts"]
        assert "Nothing was sent" in told["detail"]


@asynccontextmanager
async def in_place_of_the_account_service(answer: Any, settings: Settings) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_post("/create", answer)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        told = settings.model_copy(update={"accounts_url": str(server.make_url("")).rstrip("/")})
        async with serving(balances(told), ready=False) as client:
            yield client


async def test_an_answer_that_is_lost(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    timeout = ClientTimeout(total=0.2)
    monkeypatch.setattr(account_commands, "_TIMEOUT", timeout)

    async def stands_still(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def breaks_off(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    for answer in (stands_still, breaks_off):
        async with in_place_of_the_account_service(answer, settings) as client:
            told = await problem(
                await client.post("/commands/create", json=OPEN), 503, "accounts-unavailable"
            )
            assert "may have been executed" in told["detail"]


async def test_a_body_has_a_limit(bank: Client) -> None:
    large = {**OPEN, "reference": "x" * 70_000}
    await problem(await bank.post("/commands/create", json=large), 413, "body-too-large")


@pytest.mark.parametrize("url", ["accounts:8000", "http://a@b:8000", "http://a/b", "ftp://a"])
def test_the_address_is_one_of_a_service(url: str) -> None:
    with pytest.raises(SettingsError, match="BANK_ACCOUNTS_URL"):
        load({"BANK_ACCOUNTS_URL": url})
