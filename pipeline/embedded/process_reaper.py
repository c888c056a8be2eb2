"""The guard: ends the children of a process that is gone, whatever ended it, SIGKILL included.

It is a process of its own, run as a bare file (`python -I -S guard.py`). Its stdin is a pipe whose
only writer is the process it guards, which tells it "+pid" and "-pid", one to a line, for each
child's process group. When the pipe ends, the groups that are left are terminated and, `GRACE`
seconds later, killed.
"""

import contextlib
import os
import signal
import sys
import time

GRACE = 10.0


def signalled(groups: set[int], number: int) -> set[int]:
    """Signal each process group; return those that still exist."""
    left = set()
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            left.add(group)
    return left


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    deadline = time.monotonic() + GRACE
    groups = signalled(groups, signal.SIGTERM)
    groups = signalled(groups, signal.SIGCONT)
    while groups and time.monotonic() < deadline:
        time.sleep(0.02)
        groups = signalled(groups, 0)
    signalled(groups, signal.SIGKILL)


if __name__ == "__main__":
    main()
