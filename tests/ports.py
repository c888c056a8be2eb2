"""Free ports, no two of which any two test processes of this machine give out."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

RANGE: Final = range(20_000, 32_000)
"""Above those that `bank` itself gives out, below those that outgoing connections take."""
_BLOCK: Final = 300


def free_port() -> int:
    """A port where nobody listens."""
    return next(port for port in _ports if _is_free(port))


def _own_block() -> range:
    """Ports that this process alone gives out, by a lock that ends with it."""
    firsts = list(RANGE[::_BLOCK])
    for first in random.SystemRandom().sample(firsts, len(firsts)):
        if _locked(Path(tempfile.gettempdir(), f"bank-test-ports-{first}.lock")):
            return range(first, first + _BLOCK)
    raise RuntimeError("other test processes have all ports")


def _locked(path: Path) -> bool:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# One comes round again when what had it is long gone.
_ports = itertools.cycle(_own_block())
