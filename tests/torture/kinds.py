"""The kinds of servers that a run may have, each with the faults that fit them and their pace."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.torture.clusters import clusters
from tests.torture.faults import CLUSTER_FAULTS, FAULTS, Maker
from tests.torture.nemesis import PATIENCE
from tests.torture.schedule import CALM, QUICK, Pace
from tests.torture.servers import Servers, embedded


@dataclass(frozen=True, slots=True)
class Kind:
    """`begin` starts the servers on a stack, with their data in a folder. `words` ask `make` for
    it. `settle` is how long the bank may take to come to rest, `patience` how long a fault may take
    to begin and to heal, in seconds."""

    begin: Callable[[Path, AsyncExitStack], Awaitable[Servers]]
    faults: Mapping[str, Maker]
    words: tuple[str, ...]
    pace: Pace
    settle: float
    patience: float


EMBEDDED: Final = Kind(embedded, FAULTS, (), QUICK, settle=120.0, patience=PATIENCE)
CLUSTERS: Final = Kind(
    clusters, CLUSTER_FAULTS, ("CLUSTER=1",), CALM, settle=240.0, patience=6 * PATIENCE
)
