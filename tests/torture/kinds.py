"""The kinds of runs: on which servers, with the faults that fit them and their pace, and of which
application."""

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.torture.checker.end import Judge
from tests.torture.clusters import clusters
from tests.torture.commands import Commands, Draws
from tests.torture.faults import CLUSTER_FAULTS, FAULTS, Maker
from tests.torture.history import History
from tests.torture.nemesis import PATIENCE
from tests.torture.parcels import ParcelCommands, ParcelJudge
from tests.torture.schedule import CALM, QUICK, Pace
from tests.torture.servers import Servers, embedded


@dataclass(frozen=True, slots=True)
class Kind:
    """`begin` starts the servers on a stack, with their data in a folder. `words` ask `make` for
    it. `settle` is how long the bank may take to come to rest, `patience` how long a fault may take
    to begin and to heal, in seconds. `commands` draws a client's, and `judge` judges what comes of
    them; `reads`: whether readers look on meanwhile, who know the bank alone."""

    begin: Callable[[Path, AsyncExitStack], Awaitable[Servers]]
    faults: Mapping[str, Maker]
    words: tuple[str, ...]
    pace: Pace
    settle: float
    patience: float
    commands: Callable[[random.Random, History], Draws] = Commands
    judge: type[Judge] = Judge
    reads: bool = True


EMBEDDED: Final = Kind(embedded, FAULTS, (), QUICK, settle=120.0, patience=PATIENCE)
CLUSTERS: Final = Kind(
    clusters, CLUSTER_FAULTS, ("CLUSTER=1",), CALM, settle=240.0, patience=6 * PATIENCE
)
_ALSO: Final = ("stop-worker", "slow-mongodb")
"""A process may be killed between a command and what it keeps of it: that takes a moment only."""
PARCELS: Final = Kind(
    partial(embedded, application="tests.torture.hasty:PARCELS", projections="places"),
    {name: make for name, make in FAULTS.items() if name.startswith("kill-") or name in _ALSO},
    ("APPLICATION=parcels",),
    QUICK,
    settle=120.0,
    patience=PATIENCE,
    commands=ParcelCommands,
    judge=ParcelJudge,
    reads=False,
)
"""The example (`examples/parcels/`, whose folder is in PYTHONPATH) with less patience."""
