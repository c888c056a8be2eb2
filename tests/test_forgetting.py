"""`bank forget` on a running bank: the commands, the projections, and what the stores have in the
end."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pymongo
import pytest

from api.accounts.app import create_app
from pipeline.eventstore import EventStore
from pipeline.model.events import event_in
from pipeline.model.personal import FORGOTTEN
from pipeline.operations.checker.report import Report, Verdict
from pipeline.operations.verify import verify
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.names import STREAM
from tests.services import Client, serving
from tests.torture.checker import stores

NAME, OTHER = "Ada Lovelace", "Grace Hopper"

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def bank(settings: Settings, role: Callable[..., Awaitable[Role]]) -> AsyncIterator[Client]:
    """The account service of a bank with a forwarder and a worker that keeps both projections."""
    await role("bank", "forwarder")
    # Its markers: the log has no event that was stored before them.
    await eventually(lambda: stores.log(settings.nats_url, "", STREAM))
    await role("bank", "worker", BANK_PROJECTIONS="balance statement")
    async with serving(create_app(settings)) as client:
        yield client


async def asked(bank: Client, method: str, path: str, **body: Any) -> dict[str, Any]:
    async with bank.request(method, path, json=body or None) as answer:
        assert answer.status in (200, 201), await answer.text()
        return dict(await answer.json())


async def shows(settings: Settings, account: str, **fields: Any) -> bool:
    found = await stores.documents(settings.elasticsearch_url, "balance")
    there = found[account].source if account in found else {}
    return all(there.get(name) == value for name, value in fields.items())


async def everywhere(settings: Settings) -> dict[str, str]:
    """The raw content of all stores, by place."""
    urls = {name: settings.access(name).url for name in ("mongodb", "nats", "elasticsearch")}
    return await stores.raw(urls, settings.mongodb_database, STREAM)


async def has(settings: Settings, name: str) -> set[str]:
    """Where it stands."""
    return {place for place, text in (await everywhere(settings)).items() if name in text}


def judged(report: Report) -> Verdict:
    """What is said of forgetting."""
    return next(each for each in report.verdicts if each.number == 19)


@pytest.mark.drill
async def test_from_the_command_to_the_last_store(
    settings: Settings, bank: Client, store: EventStore, role: Any
) -> None:
    account = (await asked(bank, "POST", "/create", owner=NAME, money=5))["id"]
    await asked(bank, "PATCH", f"/{account}", owner=OTHER)
    other = (await asked(bank, "POST", "/create", owner="Somebody else", money=1))["id"]
    await eventually(lambda: shows(settings, account, owner=OTHER, version=2), seconds=60)
    await eventually(lambda: shows(settings, other, owner="Somebody else"), seconds=60)
    [place] = await has(settings, OTHER)
    assert place.startswith("balance-"), "the index, where people read it"

    forget = await role("bank", "forget", "--yes", "--wait", "60", account)
    assert await forget.wait() == 0, forget.log()
    assert "forgotten, by OwnerForgotten, version 3" in forget.log()
    assert "its key is deleted: 2 events" in forget.log()
    assert "balance: shows it" in forget.log()
    await asked(bank, "POST", "/transfer", **{"from": account, "to": other, "money": 2})
    await eventually(lambda: shows(settings, account, owner=FORGOTTEN, version=4), seconds=60)
    await eventually(lambda: shows(settings, other, owner="Somebody else", version=2))
    assert not await has(settings, NAME)
    assert not await has(settings, OTHER)

    shown = await asked(bank, "GET", f"/{account}/events")
    owners = [each["body"].get("owner") for each in shown["data"]]
    assert owners == [FORGOTTEN, FORGOTTEN, None, None]
    assert (await asked(bank, "GET", f"/{account}?version=2"))["owner"] == FORGOTTEN
    streamed = [event_in(json.dumps(each.event).encode()) for each in await logged(settings)]
    readable = await store.readable([each for each in streamed if isinstance(each, dict)])
    assert [each["body"]["owner"] for each in readable if "owner" in each["body"]] == [
        FORGOTTEN,
        FORGOTTEN,
        "Somebody else",
    ]
    report = await verify(settings, patience=30)
    assert report.holds, report
    assert judged(report).figure == "3 events encrypted, 1 accounts forgotten"

    rebuild = await role("bank", "rebuild", "--wait")
    assert await rebuild.wait(240) == 0, rebuild.log()
    assert await shows(settings, account, owner=FORGOTTEN, version=4)
    assert await shows(settings, other, owner="Somebody else", version=2)

    # Given again, and for nobody.
    again = await role("bank", "forget", "--yes", account)
    assert await again.wait() == 0
    assert "forgotten already, by OwnerForgotten, version 3" in again.log()
    nobody = await role("bank", "forget", "--yes", "nobody")
    assert await nobody.wait() == 1
    assert "no such account" in nobody.log()
    audit = await role("bank", "audit", "--action", "forget")
    assert await audit.wait() == 0
    assert audit.log().count(account) == 2

    # A key that comes back from a backup, and one that is lost.
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_url, retryWrites=False) as client:
        keys = client[settings.mongodb_database]["subject_keys"]
        keys.replace_one({"_id": account}, {"_id": account, "since": 0, "keys": {"v0": b"k" * 32}})
        keys.delete_one({"_id": other})
    report = await verify(settings, patience=1)
    assert 19 in report.violated
    told = " ".join(judged(report).examples)
    assert f"account {account}, forgotten at version 3: its key is there" in told
    assert f"account {other}, version 1: its key is lost" in told


async def logged(settings: Settings) -> list[stores.Logged]:
    found = await stores.log(settings.nats_url, "", STREAM)
    return [each for each in found if each.event is not None]
