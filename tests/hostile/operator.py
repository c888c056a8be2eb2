"""Those who have to see what happened, and put it right."""

from typing import Any

import aiohttp
import pytest

from pipeline.eventstore import driver
from pipeline.model.events import misplaced
from pipeline.operations.checker import report as reports
from pipeline.operations.checker.live import check_live
from pipeline.operations.checker.report import Report
from pipeline.support.settings import Settings
from tests.harness import Role
from tests.hostile.customers import Customers

Json = dict[str, Any]


async def stored(settings: Settings) -> list[Json]:
    client = driver.client(settings.mongodb_url)
    found = client[settings.mongodb_database]["events"].find({})
    events = await found.to_list(None)
    client.close()
    return events


async def bank(settings: Settings, *command: str) -> tuple[int, str]:
    """The exit code of a command, and all it said."""
    run = Role(settings, "bank", *command)
    async with run:
        return await run.wait(120), run.log()


async def complaints(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, str]:
    """The checker's report, with all that it has to say of anybody."""
    with monkeypatch.context() as patch:
        patch.setattr(reports, "EXAMPLES", 10**6)
        report = await check_live(settings)
    return report, "\n".join(line for each in report.verdicts for line in each.examples)


def places(documents: list[Json]) -> set[str]:
    """The accounts in whose places somebody's documents are."""
    return {each["account_id"] for each in documents if misplaced(each) is None}


async def services_answer(customers: Customers, http: aiohttp.ClientSession, ids: set[str]) -> None:
    """For accounts that can't be read, too: what they are, or a problem that says so."""
    for account_id in ids:
        money = {"id": account_id, "money": 1}
        for answer in (
            await http.get(f"{customers.accounts}/{account_id}"),
            await http.post(f"{customers.accounts}/deposit", json=money),
            await http.get(f"{customers.accounts}/{account_id}/events"),
            await http.get(f"{customers.shown}/{account_id}"),
        ):
            said = await answer.json(content_type=None)
            if answer.status == 503:
                assert said["type"] == "/problems/account-unreadable", said
            assert answer.status in (200, 404, 409, 422, 503), said


async def operated(settings: Settings, partitions: int) -> None:
    """What an operator does all day comes to its end."""
    for command in (
        ["rebuild", "--wait"],
        ["repartition", str(partitions)],
        ["rebuild", "--in-place", "--wait"],
        ["parked"],
        ["rebuild", "status"],
        ["audit"],
        ["audit", "--json"],
        ["keys"],
    ):
        code, said = await bank(settings, *command)
        assert code == 0, (command, said)
        assert "Traceback" not in said
    _, said = await bank(settings, "partitions")  # which gives up on a server that is slow
    assert all(f"\n{partition} " in said for partition in range(partitions)), said
    assert "Traceback" not in said


async def tidied(settings: Settings, written: list[Json]) -> None:
    """What an operator does about it: take it out, retry who is parked, and rebuild."""
    client = driver.client(settings.mongodb_url, retryWrites=False)
    events = client[settings.mongodb_database]["events"]
    for each in written:
        assert (await events.delete_one({"_id": each["_id"]})).deleted_count
    # Where one of them opened an account, `services_answer` has paid into it.
    await events.delete_many({"account_id": {"$in": sorted(places(written))}})
    client.close()
    for command in (["rebuild", "--wait"], ["parked", "retry", "--all", "--wait", "60"]):
        code, said = await bank(settings, *command)
        assert code == 0, (command, said)


async def routes_answer(http: aiohttp.ClientSession, customers: Customers) -> None:
    for url in (
        f"{customers.accounts}/metrics",
        f"{customers.shown}/metrics",
        f"{customers.shown}/partitions",
        f"{customers.shown}/parked",
        f"{customers.shown}/rebuilds",
        f"{customers.shown}/?limit=100",
    ):
        async with http.get(url) as answer:
            assert answer.status == 200, (url, await answer.text())
