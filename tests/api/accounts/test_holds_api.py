"""Holds and reversals over HTTP: what is answered, stored, refused and repeated."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.accounts.app import create_app
from pipeline.banking.holds import MOST
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.commands import (
    Answer,
    Command,
    capture,
    close,
    create,
    deposit,
    freeze,
    hold,
    send,
    transfer,
    unfreeze,
    void,
    withdraw,
)
from tests.services import NOBODY, Client, serving


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        yield client


async def done(bank: Client, command: Command, **given: str) -> dict[str, Any]:
    answer = await send(bank, command, **given)
    assert answer.status in (200, 201), answer
    return answer.document


async def refused(bank: Client, command: Command, status: int, problem: str) -> Answer:
    answer = await send(bank, command)
    assert (answer.status, answer.problem) == (status, problem), answer
    return answer


async def opened(bank: Client, money: int) -> str:
    return str((await done(bank, create(money=money)))["id"])


async def read(bank: Client, account: str) -> dict[str, Any]:
    async with bank.get(f"/{account}") as answer:
        return dict(await answer.json())


def money(document: dict[str, Any]) -> tuple[int, int]:
    return document["balance"], document["available"]


def reverse(account: str, version: int, named: str) -> Command:
    body = {"id": account, "version": version, "transfer": named}
    return Command("POST", "/reverse", body)


async def test_what_is_held_can_be_captured_in_part(bank: Client, store: EventStore) -> None:
    account = await opened(bank, 100)
    described = hold(account, 70)._replace(
        body={"id": account, "money": 70, "seconds": 60, "reference": "room 7", "description": "x"}
    )
    before = datetime.now(UTC)
    answer = await done(bank, described)
    there = answer["hold"]
    assert money(answer) == (100, 30)
    assert answer["holds"] == [there]
    assert (await read(bank, account)) == {n: v for n, v in answer.items() if n != "hold"}
    lasts = datetime.fromisoformat(there["expires_at"]) - before
    assert timedelta(seconds=59) < lasts < timedelta(seconds=90)
    await refused(bank, withdraw(account, 31), 422, "insufficient-funds")
    await refused(bank, transfer(account, NOBODY, 31), 422, "insufficient-funds")
    await refused(bank, hold(account, 31), 422, "insufficient-funds")
    await refused(bank, capture(account, there["id"], 71), 422, "hold-too-small")
    await refused(bank, capture(account, NOBODY), 404, "hold-not-found")
    answer = await done(bank, capture(account, there["id"], 50))
    assert answer["hold"] == {"id": there["id"], "money": 50, "released": 20}
    assert (money(answer), answer["holds"]) == ((50, 50), [])
    await refused(bank, capture(account, there["id"]), 404, "hold-not-found")
    await refused(bank, void(account, there["id"]), 404, "hold-not-found")
    _, first, second = await store.load(account)
    assert (first["kind"], first.get("reference")) == ("MoneyHeld", "room 7")
    assert first["body"] == {
        "hold": there["id"],
        "money": 70,
        "expires_at": there["expires_at"],
    }
    assert (second["kind"], second["body"]) == (
        "HoldCaptured",
        {"hold": there["id"], "money": 50, "released": 20},
    )


async def test_a_hold_is_repeated_by_its_key_and_conditional(bank: Client) -> None:
    account = await opened(bank, 10)
    first = await send(bank, hold(account, 5), key="a room", if_match='"1"')
    again = await send(bank, hold(account, 5), key="a room", if_match='"1"')
    assert first.status == 200
    assert (again.replayed, again.content) == (True, first.content)
    other = await send(bank, hold(account, 4), key="a room")
    assert other.problem == "idempotency-key-reused"
    named = first.document["hold"]["id"]
    assert (await send(bank, void(account, named), if_match='"1"')).problem == "version-mismatch"
    one = await send(bank, capture(account, named), key="pay")
    assert (one.status, money(one.document)) == (200, (5, 5))
    assert (await send(bank, capture(account, named), key="pay")).content == one.content


async def test_a_repeated_hold_whose_time_has_passed_is_answered_as_before(bank: Client) -> None:
    account = await opened(bank, 10)
    ends = datetime.now(UTC) + timedelta(seconds=1)
    short = Command("POST", "/hold", {"id": account, "money": 5, "expires_at": ends.isoformat()})
    first = await send(bank, short, key="short")
    assert first.status == 200, first
    await asyncio.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()))
    assert (await send(bank, short, key="short")).content == first.content
    await refused(bank, short, 422, "hold-too-long")


@pytest.mark.parametrize(
    "end",
    [
        {},
        {"seconds": 0},
        {"seconds": 31 * 86400 + 1},
        {"seconds": 1.5},
        {"seconds": 5, "expires_at": "2026-01-31T12:00:00Z"},
        {"expires_at": "tomorrow"},
        {"expires_at": 5},
        {"expires_at": ["2026-01-31T12:00:00Z"]},
    ],
    ids=str,
)
async def test_a_hold_needs_one_end(bank: Client, end: dict[str, Any]) -> None:
    await refused(
        bank, Command("POST", "/hold", {"id": NOBODY, "money": 1, **end}), 400, "invalid-input"
    )


async def test_ends_out_of_reach_are_refused(bank: Client) -> None:
    account = await opened(bank, 10)
    for ends in ("2020-01-31T12:00:00Z", "9999-12-31T23:59:59Z"):
        late = Command("POST", "/hold", {"id": account, "money": 1, "expires_at": ends})
        await refused(bank, late, 422, "hold-too-long")


async def test_a_frozen_account_releases_and_pays_nothing(bank: Client) -> None:
    account = await opened(bank, 10)
    one, two = [(await done(bank, hold(account, 5)))["hold"]["id"] for _ in "ab"]
    await refused(bank, close(account), 409, "account-not-empty")
    await done(bank, freeze(account))
    await refused(bank, hold(account, 1), 409, "account-frozen")
    await refused(bank, capture(account, one), 409, "account-frozen")
    assert money(await done(bank, void(account, one))) == (10, 5)
    await done(bank, unfreeze(account))
    assert money(await done(bank, capture(account, two))) == (5, 5)


async def test_too_many_holds_are_refused(bank: Client) -> None:
    account = await opened(bank, 1000)
    answers = await asyncio.gather(*(send(bank, hold(account)) for _ in range(MOST)))
    assert {each.status for each in answers} == {200}
    await refused(bank, hold(account), 409, "too-many-holds")
    assert len((await read(bank, account))["holds"]) == MOST
    assert money(await done(bank, deposit(account))) == (1001, 1001 - MOST)


# ------------------------------------------------------------------ reversals


async def test_a_transfer_is_reversed_once(bank: Client, store: EventStore) -> None:
    payer, payee = await opened(bank, 10), await opened(bank, 0)
    sent = await done(bank, transfer(payer, payee, 7))
    back = reverse(payer, sent["version"], sent["transfer"]["id"])
    both = await asyncio.gather(*(send(bank, back) for _ in range(4)))
    assert sorted(each.status for each in both) == [200, 409, 409, 409]
    assert {each.problem for each in both if each.status == 409} == {"transfer-reversed"}
    (answer,) = [each.document for each in both if each.status == 200]
    assert (answer["id"], money(answer)) == (payer, (10, 10))
    named = answer["transfer"]
    assert (named["counterparty"], named["reverses"]) == (payee, sent["transfer"]["id"])
    assert (await read(bank, payee))["balance"] == 0
    leg = (await store.load(payee))[-1]
    assert (leg["kind"], leg["body"]["transfer"]) == (
        "MoneyWithdrawn",
        {**named, "counterparty": payer},
    )
    # Money that came since is not taken: the reversal is found before what is missing.
    await done(bank, deposit(payee, 50))
    await refused(bank, back, 409, "transfer-reversed")
    again = reverse(payee, leg["version"], named["id"])
    await refused(bank, again, 409, "transfer-not-reversible")


async def test_a_reversal_is_repeated_by_its_key(bank: Client) -> None:
    payer, payee = await opened(bank, 10), await opened(bank, 0)
    sent = await done(bank, transfer(payer, payee, 7))
    back = reverse(payer, sent["version"], sent["transfer"]["id"])
    assert (await send(bank, back, if_match='"1"')).problem == "version-mismatch"
    first = await send(bank, back, key="mistake", if_match='"2"')
    assert first.status == 200, first
    again = await send(bank, back, key="mistake")
    assert (again.replayed, again.content) == (True, first.content)
    assert (await send(bank, back, key="another")).problem == "transfer-reversed"


async def test_what_can_not_be_reversed(bank: Client) -> None:
    payer, payee = await opened(bank, 10), await opened(bank, 0)
    sent = await done(bank, transfer(payer, payee, 7))
    version, named = sent["version"], sent["transfer"]["id"]
    for wrong in (
        reverse(payer, version, NOBODY),
        reverse(payer, 1, named),
        reverse(payer, 99, named),
        reverse(payee, 2, named),
        reverse(NOBODY, 2, named),
    ):
        await refused(bank, wrong, 404, "transfer-not-found")
    there = (await done(bank, hold(payee, 1)))["hold"]["id"]
    answer = await refused(bank, reverse(payer, version, named), 422, "insufficient-funds")
    assert answer.document["account"] == payee
    await done(bank, void(payee, there))
    await done(bank, freeze(payee))
    await refused(bank, reverse(payer, version, named), 409, "account-frozen")
    await done(bank, unfreeze(payee))
    assert money(await done(bank, reverse(payer, version, named))) == (10, 10)
