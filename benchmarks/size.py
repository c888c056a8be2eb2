"""How much a run does. Counts are of one round; a round comes `rounds` times."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """`name` is what people see. Every count is of events, where nothing else is said."""

    name: str
    rounds: int
    writes: int
    """(a) commands of each kind."""
    forwarded: int
    projected: int
    """(c) to the worker, and (g) to all workers."""
    rival: int
    """(c) to what handles message by message."""
    rebuilt: int
    naive: int
    """(d) of the replay that awaits an index call for each event."""
    beside: int
    """(d) live commands a second beside a rebuild."""
    seconds: float
    """(e) at each load."""
    accounts: tuple[int, ...]
    """(f) from the smallest to the largest bank."""
    grown: int
    sent: int
    """(h) commands over HTTP."""
    turns: int
    """Rounds of (i) to (m), each of which starts a bank."""
    opened: int
    """(i) to (l) accounts."""
    listed: int
    """(m) accounts."""
    closed: float
    """(i), (k) and (m): seconds in which clients do what they can."""
    ordinary: float
    """(j) seconds of commands that are spread evenly."""
    burst: int
    idle: float
    """(l) seconds of rest."""
    events: tuple[int, int] = (1_000, 50_000)
    """(h) in the small bank, which has as many accounts, and in the large one."""
    workers: tuple[int, ...] = (1, 2, 4)


QUICK: Final = Size(
    name="quick",
    rounds=5,
    writes=300,
    forwarded=4_000,
    projected=5_000,
    rival=100,
    rebuilt=1_500,
    naive=100,
    beside=50,
    seconds=0.5,
    accounts=(10_000, 30_000),
    grown=3_000,
    sent=200,
    turns=2,
    opened=500,
    listed=1_500,
    closed=1.0,
    ordinary=3.0,
    burst=4_000,
    idle=3.0,
)
FULL: Final = Size(
    name="full",
    rounds=5,
    writes=2_500,
    forwarded=20_000,
    projected=20_000,
    rival=1_000,
    rebuilt=20_000,
    naive=1_000,
    beside=200,
    seconds=4.0,
    accounts=(10_000, 100_000, 1_000_000),
    grown=20_000,
    sent=400,
    turns=5,
    opened=500,
    listed=1_500,
    closed=3.0,
    ordinary=8.0,
    burst=10_000,
    idle=8.0,
)
TINY: Final = Size(
    name="tiny",
    rounds=2,
    writes=64,
    forwarded=200,
    projected=200,
    rival=10,
    rebuilt=300,
    naive=20,
    beside=20,
    seconds=0.3,
    accounts=(100, 300),
    grown=200,
    sent=30,
    turns=1,
    opened=50,
    listed=60,
    closed=0.3,
    ordinary=0.5,
    burst=100,
    idle=0.3,
    events=(50, 300),
    workers=(1, 2),
)
SIZES: Final = {size.name: size for size in (QUICK, FULL, TINY)}
