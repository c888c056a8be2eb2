"""A worker whose part fails for good ends with that error, and not as if it had been asked to."""

import asyncio

import pytest

from pipeline import app
from pipeline.agents import assignment
from pipeline.support.settings import Settings


async def test_the_error_is_raised(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise ValueError("no such driver")

    monkeypatch.setattr(assignment, "connect", connect)
    async with asyncio.timeout(60):
        with pytest.raises(ValueError, match="no such driver"):
            await app.worker(settings)
