"""`bank worker --processes 4`: several processes of one role, which answer as one.

This process, their parent, listens at the role's port and hands its sockets on, starts again what
ends, merges the logs and passes the signal to stop on. It does no work of the role, so it imports
none of it. If it is killed, the process reaper ends the others.

The sockets are shared instead of one for each process with SO_REUSEPORT: a process that starts
again or hangs keeps no connection waiting, a taken port is found once and before anything runs, and
it is the same on Linux and macOS, where SO_REUSEPORT spreads nothing.
"""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from pipeline.embedded.processes import Child, Children
from pipeline.embedded.restarts import Backoff, ending
from pipeline.support.addresses import bound
from pipeline.support.process_group import Member

log = logging.getLogger(__name__)

GRACE: Final = 28.0
"""Seconds that all get to drain: below the 30 of Compose and Kubernetes, and above the 14 in which
each ends by itself (`support/stopping.py`)."""
AT_ONCE: Final = 20.0
"""Seconds of a life, with its imports, that ended at its start."""
MOST_FAILURES: Final = 3
"""So many lives of each process that end with an error at the start, one after another, and the
group ends: another start would be no better."""

OnLine = Callable[[str, str], None]
"""Called with the name of a process and a line of its log. Called from threads."""


class ProcessesFailed(Exception):
    """Every process of a group failed at its start. `exit_code` is that of one of them."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ProcessGroup:
    """Runs `count` processes of a role: `command` is what a process runs."""

    def __init__(self, role: str, command: Sequence[str], count: int, on_line: OnLine) -> None:
        self._role, self._command, self._count = role, command, count
        self._on_line = on_line
        self._failures = [0] * count
        self._running: dict[str, Child] = {}

    async def run(self, host: str, port: int, who: str, setting: str) -> None:
        """Run them until cancelled; then let them drain, for at most `GRACE`.

        Raises `CannotListen` about `who` and `setting`, and `ProcessesFailed`.
        """
        listeners = bound(host, port, who, setting)
        descriptors = tuple(each.fileno() for each in listeners)
        folder = Path(mkdtemp(prefix="bank-"))
        children = Children(theirs=folder)
        members = [
            Member(number, self._count, descriptors, folder) for number in range(self._count)
        ]
        members[0].make_counts()
        try:
            async with asyncio.TaskGroup() as keepers:
                for member in members:
                    keepers.create_task(self._keep(children, member))
        finally:
            # First of all: who comes from now on is to be refused, and not left waiting.
            for each in listeners:
                each.close()
            await children.close(GRACE)
            for name, child in self._running.items():
                if code := child.exit_code:
                    log.error("%s did not drain (%s)", name, ending(code))

    async def _keep(self, children: Children, member: Member) -> None:
        name, backoff = f"{self._role} {member.number}", Backoff()
        while True:
            began, said = time.monotonic(), deque[str](maxlen=20)
            child = self._running[name] = self._start(children, member, name, said)
            log.info("%s is process %d", name, child.pid)
            code = await child.wait()
            await children.stop(child)  # reads the rest of its log
            del self._running[name]
            lived = time.monotonic() - began
            self._judge(member.number, code, lived, said)
            pause = backoff.pause(lived)
            log.error("%s ended (%s); it starts again in %.0f s", name, ending(code), pause)
            await asyncio.sleep(pause)

    def _start(self, children: Children, member: Member, name: str, said: deque[str]) -> Child:
        def heard(line: str) -> None:
            said.append(line)
            with suppress(OSError):  # who read the log is gone; the processes must not wait for him
                self._on_line(name, line)

        return children.start(
            name,
            [sys.executable, "-m", "pipeline.cli.main", *self._command],
            env={**os.environ, **member.environment(), "PYTHONUNBUFFERED": "1"},
            on_line=heard,
            pass_fds=member.listeners,
        )

    def _judge(self, number: int, code: int, lived: float, said: Sequence[str]) -> None:
        """Count failures at the start; raise `ProcessesFailed` when each process has enough."""
        failed = code > 0 and lived < AT_ONCE
        self._failures[number] = self._failures[number] + 1 if failed else 0
        if min(self._failures) >= MOST_FAILURES:
            error = _error(said)
            raise ProcessesFailed(
                f"every process of the {self._role} ended {MOST_FAILURES} times at its start "
                f"({ending(code)}): {error}",
                code,
            )


def _error(said: Sequence[str]) -> str:
    """What a process said at its end: `bank: …` and what follows, or its last line."""
    for at, line in enumerate(said):
        if line.startswith("bank: "):
            return "\n".join([line.removeprefix("bank: "), *list(said)[at + 1 :]])
    return said[-1] if said else "it said nothing"
