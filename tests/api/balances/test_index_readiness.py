"""What is wrong with an index or its alias is named: by readiness, which reads as readers do, and
so by `bank status`, and by `bank verify`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.embedded.health import ready
from pipeline.search import Elastic, Generations
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.ports import free_port
from tests.services import problem, serving

pytestmark = pytest.mark.elasticsearch

Start = Callable[..., Awaitable[Role]]


async def curl(settings: Settings, method: str, path: str, body: Any = None) -> None:
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as http,
        http.request(method, path, json=body) as answer,
    ):
        assert answer.status < 300, await answer.text()


TROUBLE: dict[str, tuple[str, str, Any]] = {
    "balance-0": ("PUT", "/balance-0", {"aliases": {"balance": {}}}),
    "bank-restored": ("PUT", "/bank-restored", {"aliases": {"balance": {}, "balance-g1": {}}}),
    "filter": (
        "POST",
        "/_aliases",
        {
            "actions": [
                {"add": {"index": "balance-1", "alias": "balance", "filter": {"term": {"id": "-"}}}}
            ]
        },
    ),
    "routing": (
        "POST",
        "/_aliases",
        {"actions": [{"add": {"index": "balance-1", "alias": "balance", "routing": "7"}}]},
    ),
    "closed": ("POST", "/balance-1/_close", None),
    "there is no balance": ("DELETE", "/balance-1", None),
}


@pytest.mark.parametrize("words", TROUBLE)
async def test_the_service_and_verify_say_what_is_wrong(
    settings: Settings, role: Start, words: str
) -> None:
    elastic = Elastic(settings.elasticsearch_url)
    await Generations(elastic, BALANCE).ensure_live()
    await elastic.close()
    async with serving(create_app(settings)) as client:
        await curl(settings, *TROUBLE[words])
        async with client.get("/readyz") as answer:
            document = await problem(answer, 503, "not-ready")
    assert words in document["detail"]
    assert document["missing"] == ["elasticsearch"]
    verify = await role("bank", "verify")
    assert await verify.wait(60) == 2, verify.log()
    assert words in " ".join(verify.log().split())


STATEMENT_TROUBLE: dict[str, tuple[str, str, Any]] = {
    "statement-0": ("PUT", "/statement-0", {"aliases": {"statement": {}}}),
    "closed": ("POST", "/statement-1/_close", None),
    "blocked": ("PUT", "/statement-1/_settings", {"index.blocks.read": True}),
}


@pytest.mark.parametrize("words", STATEMENT_TROUBLE)
async def test_the_service_names_what_keeps_it_from_statements(
    settings: Settings, words: str
) -> None:
    both = settings.model_copy(update={"projections": "balance,statement"})
    elastic = Elastic(settings.elasticsearch_url)
    await Generations(elastic, BALANCE).ensure_live()
    async with serving(create_app(both)) as client:
        async with client.get("/readyz") as answer:
            assert answer.status == 200, "nobody has made it yet"
        await Generations(elastic, STATEMENT).ensure_live()
        async with client.get("/readyz") as answer:
            assert answer.status == 200, await answer.text()
        await curl(settings, *STATEMENT_TROUBLE[words])
        async with client.get("/readyz") as answer:
            document = await problem(answer, 503, "not-ready")
    await elastic.close()
    assert words in document["detail"]


async def test_verify_names_a_second_index_behind_any_alias(
    settings: Settings, role: Start
) -> None:
    both = {"BANK_PROJECTIONS": "balance,statement", "BANK_METRICS_PORT": str(free_port())}
    address = f"http://127.0.0.1:{both['BANK_METRICS_PORT']}"
    await role("bank", "forwarder")
    worker = await role("bank", "worker", **both)

    async def is_ready() -> bool:
        return "ok" in await ready(address)

    await eventually(is_ready, seconds=60)
    await worker.stop()
    sound = await role("bank", "verify", **both)
    assert await sound.wait(60) == 0, sound.log()
    for alias in ("statement", "statement-g1", "bank-checkpoints-live"):
        await curl(settings, "PUT", "/bank-restored", {"aliases": {alias: {}}})
        verify = await role("bank", "verify", **both)
        assert await verify.wait(60) == 1, verify.log()
        assert f"the alias {alias} has 2 indexes" in " ".join(verify.log().split())
        await curl(settings, "DELETE", "/bank-restored")


async def test_a_worker_says_why_it_waits_and_goes_on(settings: Settings, role: Start) -> None:
    port = free_port()
    both = {"BANK_PROJECTIONS": "balance,statement", "BANK_METRICS_PORT": str(port)}
    await role("bank", "forwarder")
    await role("bank", "worker", **both)
    address = f"http://127.0.0.1:{port}"

    async def says(words: str) -> bool:
        return words in await ready(address)

    await eventually(lambda: says("ok"), seconds=60)
    await curl(settings, "POST", "/statement-1/_close")
    await eventually(lambda: says("closed"))
    await curl(settings, "POST", "/statement-1/_open")
    await eventually(lambda: says("ok"))
    for name in ("balance", "statement"):
        await curl(settings, "PUT", f"/{name}-0", {"aliases": {name: {}}})
    await asyncio.gather(*(_single(settings, name) for name in ("balance", "statement")))
    await eventually(lambda: says("ok"))


async def _single(settings: Settings, name: str) -> None:
    """Wait until the first generation alone is behind the alias."""

    async def single() -> bool:
        async with (
            aiohttp.ClientSession(settings.elasticsearch_url) as http,
            http.get(f"/_alias/{name}") as answer,
        ):
            return set(await answer.json()) == {f"{name}-1"}

    await eventually(single, seconds=10, message=f"{name} has one index")
