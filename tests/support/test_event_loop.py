"""The event loop of the roles."""

import asyncio

import pytest

from pipeline.support import event_loop


async def module_of_the_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_it_is_uvloop_where_that_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert event_loop.run(module_of_the_loop()).partition(".")[0] == "uvloop"


def test_it_is_that_of_asyncio_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "find_spec", lambda _: None)
    assert event_loop.run(module_of_the_loop()).partition(".")[0] == "asyncio"
