"""Certificates and passwords as `deploy/secure/make.sh` makes them; servers that want them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.support.access import SERVERS
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import eventually
from tests.secure.servers import Servers, secured
from tests.secure.why import lets_in


@pytest.fixture
async def guarded(scratch: Path, made: Path) -> AsyncIterator[Servers]:
    """All four servers, each of which takes the bank's certificate and password and no other."""
    async with secured(scratch, made) as servers:
        settings = placed(scratch / "bank", mongodb_database="bank", partitions=2, **servers.told)
        for server in SERVERS:
            await eventually(
                lambda server=server: lets_in(server, settings), seconds=120, message=server
            )
        yield servers


@pytest.fixture
def settings(scratch: Path, guarded: Servers) -> Settings:
    """Settings with all that it takes."""
    return placed(scratch, mongodb_database="bank", partitions=2, lease_seconds=6, **guarded.told)
