"""A bank under load while a server is away: what its roles say and hold, and what is written."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.fleet import Fleet
from tests.harness import Role, eventually
from tests.invariants import Acknowledged
from tests.load import Load

_LINE: Final = re.compile(
    r"^\S+ (?:WARNING|ERROR|CRITICAL) +(\S+)(?: \[.*?\])?: ([^:\n]*)", re.MULTILINE
)
_HERTZ: Final = 20


@dataclass(slots=True)
class Memory:
    """Resident bytes by role: before a block, the most within it, and at its end."""

    before: dict[str, int]
    peak: dict[str, int]
    after: dict[str, int] = field(default_factory=dict)

    @property
    def growth(self) -> int:
        """By how much some role's peak is above what it had before: the most of them."""
        return max(self.peak[name] - before for name, before in self.before.items())

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {before >> 20} -> {self.peak[name] >> 20} -> {self.after[name] >> 20} MiB"
            for name, before in self.before.items()
        )


def _resident(roles: Mapping[str, Role]) -> dict[str, int]:
    files = {name: Path(f"/proc/{role.pid}/status") for name, role in roles.items()}
    found = {name: file.read_text().partition("VmRSS:")[2] for name, file in files.items()}
    return {name: 1024 * int(text.split()[0]) for name, text in found.items()}


@asynccontextmanager
async def memory(roles: Mapping[str, Role]) -> AsyncIterator[Memory]:
    """Watch the roles' memory while the block runs."""
    seen, stop = Memory(_resident(roles), _resident(roles)), asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            seen.after = _resident(roles)
            seen.peak = {name: max(seen.peak[name], size) for name, size in seen.after.items()}
            await asyncio.sleep(1 / _HERTZ)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        stop.set()
        await task


class Words:
    """What each role has logged since this was made."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = roles
        self._from = {name: len(role.log()) for name, role in roles.items()}

    def of(self, name: str) -> str:
        return self._roles[name].log()[self._from[name] :]

    def of_an_end(self, name: str) -> bool:
        """Whether it has said of all that was down that it works again."""
        said = self.of(name)
        return said.count("; trying until it works") == said.count(": works again")

    def troubles(self, name: str) -> Counter[str]:
        """How many lines, warnings or worse, it has of each subject.

        A subject is a logger, and the message up to its first colon. The lines that repeat the
        cause of an outage do not count.
        """
        said = re.sub(r"^.*: still down, .*$", "", self.of(name), flags=re.MULTILINE)
        return Counter(f"{logger}: {what}" for logger, what in _LINE.findall(said))


class Bank:
    """A forwarder that leads, two workers with half of the partitions each, and a load.

    `ways` is what the roles are told in place of the settings.
    """

    def __init__(self, settings: Settings, **ways: str) -> None:
        self.settings = settings
        self.store = EventStore(settings.mongodb_url, settings.mongodb_database)
        self.acknowledged = Acknowledged(self.store)
        self.load = Load(self.acknowledged)
        told = settings.model_copy(update=ways)
        self.forwarder = Role(told, "bank", "forwarder")
        self.workers = {name: Role(told, "bank", "worker", "--id", name) for name in ("w1", "w2")}
        self.roles = {"forwarder": self.forwarder, **self.workers}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.store.close)
        try:
            await asyncio.gather(*map(self._stack.enter_async_context, self.roles.values()))
            await eventually(lambda: "Leading from" in self.forwarder.log(), seconds=90)
            await self.settled()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def settled(self) -> None:
        """Wait until each worker has half of the partitions."""
        fleet, half = Fleet(self.settings, _nobody), self.settings.partitions // 2
        fleet.workers = self.workers
        try:
            await fleet.has(half, half)
        finally:
            await fleet.close()


async def _nobody(*command: str) -> Role:
    raise NotImplementedError
