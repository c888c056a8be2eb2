"""The faults by name, each a small class with `begin` and `heal`."""

from tests.torture.faults.base import Fault, Maker
from tests.torture.faults.clocks import CLOCKS
from tests.torture.faults.connections import CONNECTIONS
from tests.torture.faults.delivery import DELIVERY
from tests.torture.faults.disks import DISKS
from tests.torture.faults.failover import FAILOVERS
from tests.torture.faults.guards import GUARDS
from tests.torture.faults.operators import OPERATORS
from tests.torture.faults.processes import PROCESSES
from tests.torture.faults.refusals import REFUSALS
from tests.torture.faults.stores import STORES

FAULTS: dict[str, Maker] = {
    **PROCESSES,
    **CONNECTIONS,
    **STORES,
    **REFUSALS,
    **GUARDS,
    **FAILOVERS,
    **DELIVERY,
    **CLOCKS,
    **DISKS,
    **OPERATORS,
}

__all__ = ["FAULTS", "Fault", "Maker"]
