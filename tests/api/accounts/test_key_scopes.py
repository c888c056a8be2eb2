"""Idempotency keys of customers and of the bank's people are never the same key."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from api.accounts.app import create_app
from pipeline.operations import keys
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.keys import bearing, guarded, kept, on
from tests.services import Client, is_ready, problem


@dataclass
class Bank:
    settings: Settings
    client: Client
    teller: dict[str, str]
    account: str
    customer: dict[str, str]

    async def withdraw(
        self, who: dict[str, str], key: str, money: int = 1, status: int = 200
    ) -> int:
        """What is left."""
        body, headers = {"id": self.account, "money": money}, {**who, "Idempotency-Key": key}
        async with self.client.post("/withdraw", json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            if status == 422:
                await problem(answer, 422, "idempotency-key-reused")
                return -1
            return int((await answer.json())["balance"])


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Bank]:
    settings, (teller, tellers) = on(settings), keys.new(Role.TELLER)
    await kept(settings, teller)
    async with guarded(create_app(settings)) as client:
        await eventually(lambda: is_ready(client))
        body = {"owner": "Ada", "money": 100}
        async with client.post("/create", json=body, headers=bearing(tellers)) as answer:
            account = str((await answer.json())["id"])
        customer, customers = keys.new(Role.CUSTOMER, accounts=frozenset({account}))
        await kept(settings, customer)
        async with guarded(create_app(settings)) as later:
            await eventually(lambda: is_ready(later))
            yield Bank(settings, later, bearing(tellers), account, bearing(customers))


async def test_a_tellers_key_blocks_and_repeats_no_customers(bank: Bank) -> None:
    for money, prefix in ((1, ""), (2, "/"), (3, "//")):
        left = await bank.withdraw(bank.teller, f"{prefix}{bank.account}/x", money)
        assert await bank.withdraw(bank.teller, f"{prefix}{bank.account}/x", money) == left
    assert left == 94
    assert await bank.withdraw(bank.customer, "x", 1) == 93
    assert await bank.withdraw(bank.customer, "x", 1) == 93
    await bank.withdraw(bank.customer, "x", 2, status=422)


async def test_a_customers_key_repeats_nothing_to_a_teller(bank: Bank) -> None:
    """Nor is a command executed twice that a teller sent under that key to an earlier release: what
    it stored looks as the customer's."""
    assert await bank.withdraw(bank.customer, "x", 1) == 99
    await bank.withdraw(bank.teller, f"{bank.account}/x", 1, status=422)
    assert await bank.withdraw(bank.teller, f"{bank.account}/x", 2) == 97
