"""The process reaper: ends the children of a process that has died, even if by SIGKILL.

It is a separate process, run as a file (`python -I -S process_reaper.py`), so it imports only the
standard library. Its parent holds the only write end of its stdin and writes "+pid" and "-pid"
lines, one for each child's process group. When the parent dies, the kernel closes the pipe. Then
the reaper terminates the remaining groups and kills them after `GRACE` seconds. Last of all it
deletes the folder that it was given, if any.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


def signalled(groups: set[int], number: int) -> set[int]:
    """Signal each process group; return those that still exist."""
    left = set()
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            left.add(group)
    return left


def main() -> None:
    # Whoever signals all processes at once must not end the reaper before the children.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    deadline = time.monotonic() + GRACE
    groups = signalled(groups, signal.SIGTERM)
    # A stopped process (SIGSTOP) handles the SIGTERM only after it continues.
    groups = signalled(groups, signal.SIGCONT)
    while groups and time.monotonic() < deadline:
        time.sleep(0.02)
        groups = signalled(groups, 0)
    signalled(groups, signal.SIGKILL)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
