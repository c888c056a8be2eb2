"""The fixtures of the plugin: an application on embedded servers.

What they need is imported when a test asks for them.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from pipeline.application import Application
    from pipeline.support.settings import Settings
    from pipeline.testing.bank import Bank


@pytest.fixture(scope="session")
def bank_servers() -> Iterator[dict[str, str]]:
    """The URLs of this session's servers, which all its tests share."""
    from pipeline.testing.bank import servers

    with servers() as urls:
        yield urls


@pytest.fixture
def application() -> "Application | str":
    """What runs: override it, with an application or with what `BANK_APPLICATION` would say."""
    return os.environ.get("BANK_APPLICATION") or "bank"


@pytest.fixture
def bank_settings(
    bank_servers: dict[str, str], application: "Application | str"
) -> "Iterator[Settings]":
    """Settings of the application on the session's servers, where nothing is left of other
    tests."""
    from pipeline.testing.bank import settings_on

    with settings_on(bank_servers, application) as settings:
        yield settings


@pytest_asyncio.fixture
async def bank(bank_settings: "Settings") -> "AsyncIterator[Bank]":
    """The application, at work: its roles run while the test does."""
    from pipeline.testing.bank import running_bank

    async with running_bank(bank_settings) as running:
        yield running
