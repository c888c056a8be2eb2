"""Process managers at work, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pipeline.eventstore import EventStore
from pipeline.model.process import Process
from pipeline.processes import ProcessRunner
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.settings import Settings


@asynccontextmanager
async def workers(
    settings: Settings, process: Process[Any], *names: str
) -> AsyncIterator[dict[str, ProcessRunner]]:
    """Workers of these names, of which one runs the process; killed at the end. Each has a client
    of MongoDB of its own."""
    stores = [EventStore(settings.mongodb, settings.mongodb_database) for _ in names]
    runners = {
        name: ProcessRunner(settings, store, process, name)
        for name, store in zip(names, stores, strict=True)
    }
    tasks = [asyncio.create_task(each.run()) for each in runners.values()]
    try:
        yield runners
    finally:
        for task in tasks:
            await cancel_and_wait(task)
        for store in stores:
            await store.close()
