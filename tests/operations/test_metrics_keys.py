"""With keys on, a forwarder's and a worker's metrics are for those who may read a service's."""

from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from pipeline.operations import keys
from pipeline.operations.keys import Role as KeyRole
from pipeline.support.metrics import Metrics
from pipeline.support.metrics_server import exposed
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.keys import bearing, holder, kept, on, revoked
from tests.ports import free_port

Start = Callable[..., Awaitable[Role]]


@pytest.mark.parametrize("name", ["forwarder", "worker"])
async def test_who_may_read_them(settings: Settings, role: Start, name: str) -> None:
    port = free_port()
    viewer, token = keys.new(KeyRole.VIEWER)
    await kept(settings, viewer)
    operator = await holder(settings, KeyRole.OPERATOR)
    teller = await holder(settings, KeyRole.TELLER)
    customer = await holder(settings, KeyRole.CUSTOMER, accounts=frozenset({"0" * 26}))
    await role("bank", name, BANK_KEYS="on", BANK_METRICS_PORT=str(port))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

        async def status(path: str, headers: object = None) -> int:
            async with http.get(path, headers=headers) as answer:  # type: ignore[arg-type]
                return answer.status

        async def answers(headers: dict[str, str], wanted: int) -> None:
            async def does() -> bool:
                return await status("/metrics", headers) == wanted

            await eventually(does, seconds=60)

        await answers(bearing(token), 200)
        assert await status("/metrics") == 401
        assert await status("/metrics", operator) == 200
        assert await status("/metrics", teller) == 403
        assert await status("/metrics", customer) == 403
        assert await status("/metrics", bearing(token[:-1] + "~")) == 401
        twice = [("Authorization", f"Bearer {token}")] * 2
        assert await status("/metrics", twice) == 401
        assert await status("/livez") == 200
        assert await status("/readyz") in (200, 503)
        assert await status("/nothing", None) == 401
        async with http.get("/metrics", headers=operator) as answer:
            counted = await answer.text()
        assert 'bank_http_refused_total{status="403"} 2.0' in counted
        assert 'bank_http_refused_total{status="401"} 0.0' not in counted
        await revoked(settings, viewer)
        await answers(bearing(token), 401)


async def test_a_role_that_follows_no_keys_shows_nothing(settings: Settings) -> None:
    async with (
        exposed(on(settings), Metrics("test"), {}) as address,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{address}/metrics") as answer:
            assert answer.status == 503
        async with http.get(f"{address}/livez") as answer:
            assert answer.status == 200
