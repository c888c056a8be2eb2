"""Events say who caused them, and keep the client's own reference and description."""

from typing import Any

import pytest

from api.accounts.app import create_app
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.keys import guarded, holder, on
from tests.services import Client, is_ready, problem, serving

TEXTS = {"reference": "INV-1", "description": "two chairs"}


async def sent(http: Client, path: str, status: int = 200, **options: Any) -> dict[str, Any]:
    async with http.post(path, **options) as answer:
        assert answer.status == status, await answer.text()
        return dict(await answer.json())


async def events(http: Client, account: str, **options: Any) -> list[dict[str, Any]]:
    async with http.get(f"/{account}/events", **options) as answer:
        assert answer.status == 200
        return list((await answer.json())["data"])


async def test_each_event_has_the_key_and_its_role(settings: Settings) -> None:
    settings = on(settings)
    teller = await holder(settings, Role.TELLER)
    async with guarded(create_app(settings)) as http:
        await eventually(lambda: is_ready(http), message="ready")
        body = {"owner": "Ann", "money": 100}
        ann = (await sent(http, "/create", 201, json=body, headers=teller))["id"]
        bob = (await sent(http, "/create", 201, json=body, headers=teller))["id"]
        for path in ("/freeze", "/unfreeze"):
            await sent(http, path, json={"id": ann}, headers=teller)
        customer = await holder(settings, Role.CUSTOMER, accounts=frozenset({ann}))
    async with guarded(create_app(settings)) as http:
        await eventually(lambda: is_ready(http), message="ready")
        transfer = {"from": ann, "to": bob, "money": 100, **TEXTS}
        await sent(http, "/transfer", json=transfer, headers=customer)
        await sent(http, "/close", json={"id": ann}, headers=teller)
        async with http.patch(f"/{bob}", json={"owner": "Bo"}, headers=teller) as answer:
            assert answer.status == 200
        ids = [each["Authorization"].split("_")[1] for each in (teller, customer)]
        told = {each: await events(http, each, headers=teller) for each in (ann, bob)}
        roles = [(each["actor"]["role"], each["actor"]["key"]) for each in told[ann]]
        by_teller, by_customer = ("teller", ids[0]), ("customer", ids[1])
        assert roles == [by_teller, by_teller, by_teller, by_customer, by_teller]
        assert [each["actor"]["role"] for each in told[bob]] == ["teller", "customer", "teller"]
        for leg in (told[ann][3], told[bob][1]):
            assert {name: leg[name] for name in TEXTS} == TEXTS
        for event in await events(http, ann, headers=customer):
            assert not event.keys() & {"actor", "hash", "previous"}
        assert (await events(http, ann, headers=customer))[3]["reference"] == "INV-1"


@pytest.mark.parametrize("path", ["/create", "/deposit", "/withdraw", "/transfer"])
async def test_each_command_about_money_takes_a_reference_and_a_description(
    settings: Settings, path: str
) -> None:
    async with serving(create_app(settings)) as http:
        account, other = [
            (await sent(http, "/create", 201, json={"owner": "Ann", "money": 9}))["id"]
            for _ in range(2)
        ]
        bodies: dict[str, Any] = {
            "/create": {"owner": "Ann", "money": 1},
            "/transfer": {"from": account, "to": other, "money": 1},
        }
        body = bodies.get(path, {"id": account, "money": 1})
        status = 201 if path == "/create" else 200
        account = (await sent(http, path, status, json={**body, **TEXTS}))["id"]
        last = (await events(http, account))[-1]
        assert {name: last[name] for name in TEXTS} == TEXTS
        assert "actor" not in last
        await sent(http, path, status, json=body)
        for name, longest in (("reference", 140), ("description", 500)):
            await sent(http, path, status, json={**body, name: "🦌" * longest})
            for wrong in ("", " ", "a\x00b", "a\u202eb", "x" * (longest + 1), 5, None):
                async with http.post(path, json={**body, name: wrong}) as answer:
                    fault = (await problem(answer, 400, "invalid-input"))["errors"][0]
                    assert fault["pointer"] == f"#/{name}"


async def test_another_reference_under_the_same_key_is_another_command(
    settings: Settings,
) -> None:
    headers = {"Idempotency-Key": "k"}
    async with serving(create_app(settings)) as http:
        account = (await sent(http, "/create", 201, json={"owner": "A", "money": 0}))["id"]
        body = {"id": account, "money": 1, "reference": "one"}
        first = await sent(http, "/deposit", json=body, headers=headers)
        assert await sent(http, "/deposit", json=body, headers=headers) == first
        for other in ({**body, "reference": "two"}, {**body, "description": "x"}):
            async with http.post("/deposit", json=other, headers=headers) as answer:
                await problem(answer, 422, "idempotency-key-reused")
        [_, event] = await events(http, account)
        assert event["reference"] == "one"


async def test_a_command_without_words_has_the_fingerprint_that_it_had(
    settings: Settings,
) -> None:
    """So a key that was used before an upgrade is answered as before."""
    async with serving(create_app(settings)) as http:
        body = {"owner": "Ann", "money": 1}
        headers = {"Idempotency-Key": "k"}
        account = (await sent(http, "/create", 201, json=body, headers=headers))["id"]
        [event] = await events(http, account)
    # As an earlier release stored it.
    assert event["request"] == "49516dd5e5d0e6e0cac2b7876d3574fdfa34d4978343e787e8ad182f6c6cd72d"
