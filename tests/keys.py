"""Keys for tests: made as `bank keys create` makes them, and sent as their holders send them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from pipeline.messaging import JetStream
from pipeline.operations import keys
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.services import Client, serving


def on(settings: Settings, **changes: Any) -> Settings:
    """The settings of services that ask for keys, as often as somebody likes."""
    return settings.model_copy(update={"keys": "on", "keys_rate": 0.0, **changes})


async def kept(settings: Settings, *made: Key) -> None:
    """Keep these, as if somebody had made them."""
    js = await JetStream.connect(settings.nats_url, "test")
    for key in made:
        await keys.bucket(js).put(key.id, keys.value(key))
    await js.close()


async def revoked(settings: Settings, *made: Key) -> None:
    js = await JetStream.connect(settings.nats_url, "test")
    for key in made:
        await keys.bucket(js).delete(key.id)
    await js.close()


async def holder(settings: Settings, role: Role, **limits: Any) -> dict[str, str]:
    """The headers that the holder of a new key sends."""
    key, token = keys.new(role, **limits)
    await kept(settings, key)
    return bearing(token)


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def guarded(app: web.Application) -> AsyncIterator[Client]:
    """A service that has read the keys, and may miss anything else."""
    async with serving(app, ready=False) as client:
        await eventually(lambda: knows_keys(client), message="the keys are known")
        yield client


async def knows_keys(client: Client) -> bool:
    async with client.get("/metrics") as answer:
        return answer.status == 401
