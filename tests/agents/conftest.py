"""The stores, and the worker that a test may start on them."""

from collections.abc import AsyncIterator

import pytest

from pipeline.support.settings import Settings
from tests.agents.world import World, world_on


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """Its worker is stopped at the end: the test has to start one."""
    opened = await world_on(settings)
    yield opened
    await opened.stop()
    await opened.js.close()
    await opened.store.close()
