"""What a probe learns of a server that gives no answer."""

import asyncio

import pytest

from pipeline.eventstore import StoreUnavailable
from pipeline.operations.status.probe import Unknown, probe
from pipeline.search import ProjectionUnavailable


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (StoreUnavailable("localhost:27017: [Errno 111] Connection refused (…)"), True),
        (StoreUnavailable("localhost:27017: timed out (…), <TopologyDescription …>"), False),
        (ProjectionUnavailable("Cannot connect to host x:9200 [Connect call failed (…)]"), True),
        (ProjectionUnavailable("ConnectionTimeout: Connection timed out"), False),
        (ConnectionError("disconnected"), True),
        (TimeoutError(), False),
    ],
)
async def test_where_nobody_listens_is_told_from_what_is_late(error: Exception, away: bool) -> None:
    async def question() -> None:
        raise error

    found = await probe("It", question(), asyncio.get_running_loop().time() + 10)
    assert isinstance(found, Unknown)
    assert (found.why, found.away) == ("It does not answer", away)
