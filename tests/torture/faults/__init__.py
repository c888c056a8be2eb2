"""The faults by name, each a small class with `begin` and `heal`."""

from functools import partial

from tests.torture.faults import connections, processes
from tests.torture.faults.base import Fault, Maker
from tests.torture.faults.clocks import CLOCKS
from tests.torture.faults.delivery import DELIVERY
from tests.torture.faults.disks import DiskFull
from tests.torture.faults.elasticsearch_nodes import ELASTICSEARCH
from tests.torture.faults.failover import FAILOVERS
from tests.torture.faults.guards import GUARDS
from tests.torture.faults.nats_nodes import NATS
from tests.torture.faults.operators import OPERATORS
from tests.torture.faults.redis_nodes import REDIS
from tests.torture.faults.refusals import REFUSALS
from tests.torture.faults.stores import STORES
from tests.torture.servers import SERVERS
from tests.torture.ways import CLIENTS


def _of_a_single(server: str) -> dict[str, Maker]:
    return {**processes.of_server(server), f"disk-full-{server}": partial(DiskFull, server)}


_ANYWHERE: dict[str, Maker] = {
    **processes.ROLES,
    **_of_a_single("mongodb"),
    **connections.of_target("mongodb"),
    **connections.of_target("nats"),
    **connections.of_target("elasticsearch"),
    **connections.of_target(CLIENTS),
    **STORES,
    **REFUSALS,
    **GUARDS,
    **DELIVERY,
    **CLOCKS,
    **OPERATORS,
}

FAULTS: dict[str, Maker] = {
    **_ANYWHERE,
    **connections.of_target("redis"),
    **FAILOVERS,
    **{name: maker for each in SERVERS for name, maker in _of_a_single(each).items()},
}
"""Where each server is one process."""

CLUSTER_FAULTS: dict[str, Maker] = {**_ANYWHERE, **NATS, **ELASTICSEARCH, **REDIS}
"""On clusters. Sentinels tell the roles where Redis is, so no proxy is on the way there; MongoDB is
one process here, too."""

__all__ = ["CLUSTER_FAULTS", "FAULTS", "Fault", "Maker"]
