"""Two servers, and a bank that asks for three replicas: its roles are not ready, and say why."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.support.settings import Settings
from tests.cluster.asking import bank, readiness
from tests.cluster.nats import NatsCluster, nats_cluster
from tests.harness import Role, eventually
from tests.ports import free_port

Start = Callable[..., Awaitable[Role]]
NAMED = "BANK_STREAM_REPLICAS is 3, which NATS can't do for"


@pytest.fixture
async def three(scratch: Path) -> AsyncIterator[NatsCluster]:
    """Two."""
    async with nats_cluster(scratch / "cluster", 2) as cluster:
        yield cluster


@pytest.mark.cluster
@pytest.mark.timeout(900)
async def test_replicas_that_are_not_to_be_had(settings: Settings, role: Start) -> None:
    ports = {name: free_port() for name in ("forwarder", "worker")}
    for name, port in ports.items():
        await role("bank", name, BANK_METRICS_PORT=str(port))
    for port in ports.values():
        await eventually(partial(told, port), seconds=180)
    code, said = await bank(settings, "keys", "create", "--role", "viewer")
    assert (code, NAMED in said) == (1, True), said


async def told(port: int) -> bool:
    said = await readiness(port)
    return said["http"] == 503 and f"nats: {NAMED}" in said["detail"]
