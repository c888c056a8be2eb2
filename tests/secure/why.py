"""What a role says when a server does not let it in."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from pipeline.coordination.leases import Lease, LeaseUnavailable
from pipeline.eventstore import EventStore, StoreUnavailable
from pipeline.messaging import JetStream
from pipeline.search import FailFastElastic, ProjectionUnavailable
from pipeline.support.retry import brief
from pipeline.support.settings import Settings

_DOWN: Final = (StoreUnavailable, ProjectionUnavailable, LeaseUnavailable, TimeoutError)


async def why_not(server: str, settings: Settings) -> str:
    """In one line, as it is logged; "" when it is let in."""
    try:
        async with AsyncExitStack() as stack:
            await _TRIES[server](settings, stack)
    except _DOWN as error:
        return brief(error)
    return ""


async def lets_in(server: str, settings: Settings) -> bool:
    return await why_not(server, settings) == ""


async def _mongodb(settings: Settings, stack: AsyncExitStack) -> None:
    store = EventStore(settings.mongodb, settings.mongodb_database)
    stack.push_async_callback(store.close)
    await store.count()


async def _nats(settings: Settings, stack: AsyncExitStack) -> None:
    js = await JetStream.within(3, settings.nats, "test")
    stack.push_async_callback(js.close)
    await js.ping()


async def _redis(settings: Settings, stack: AsyncExitStack) -> None:
    lease = Lease(settings.redis, "test", "me", 10)  # a third of it is the time-out, at most 2 s
    stack.push_async_callback(lease.close)
    await lease.acquire()


async def _elasticsearch(settings: Settings, stack: AsyncExitStack) -> None:
    elastic = FailFastElastic(settings.elasticsearch)
    stack.push_async_callback(elastic.close)
    await elastic.patiently(elastic.client.count)


_TRIES: Final[dict[str, Callable[[Settings, AsyncExitStack], Awaitable[None]]]] = {
    "mongodb": _mongodb,
    "nats": _nats,
    "redis": _redis,
    "elasticsearch": _elasticsearch,
}
