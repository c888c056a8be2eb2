"""The fixtures of all tests, on a cluster of three nats-servers; the other servers are the
session's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.support.settings import Settings
from tests.cluster.nats import NatsCluster, nats_cluster


@pytest.fixture
async def three(scratch: Path) -> AsyncIterator[NatsCluster]:
    """Three nats-servers of this test alone."""
    async with nats_cluster(scratch / "cluster") as cluster:
        yield cluster


@pytest.fixture
def settings(settings: Settings, three: NatsCluster) -> Settings:
    """Settings on them, with three replicas of each stream and bucket."""
    return settings.model_copy(update={"nats_url": three.url, "stream_replicas": 3})
