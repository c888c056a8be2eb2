"""What tests of the bridge share: a topic."""

import pytest

from pipeline.messaging import JetStream, ensure_partitioned
from tests.bridge.support import PARTITIONS, TOPIC


@pytest.fixture
async def js(js: JetStream) -> JetStream:
    """A connection to a JetStream that has the topic."""
    await ensure_partitioned(js, TOPIC, PARTITIONS)
    return js
