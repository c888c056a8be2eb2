"""The bank under torture: servers, every role, and a proxy on each way between them.

This is the one place that wires, and all that a fault may touch.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from pipeline.embedded.servers import Server
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.torture.gate import Gate
from tests.torture.nodes import asked, connected, one_that_answers
from tests.torture.servers import Copies, Servers
from tests.torture.ways import SERVICES, Ways

ROLES: Final = {
    "accounts-1": "accounts",
    "accounts-2": "accounts",
    "balances-1": "balances",
    "forwarder-1": "forwarder",
    "forwarder-2": "forwarder",
    "worker-1": "worker",
    "worker-2": "worker",
    "worker-3": "worker",
}
"""All that may run, by name. The last worker only joins for a while."""
GUEST: Final = "worker-3"
_START_SECONDS: Final = 180.0
_FORGET_SECONDS: Final = 30.0


class Era(NamedTuple):
    """When something was read: a life of Elasticsearch, a process of the balance service, and a
    time in which no fault began or ceased to move copies of shards."""

    life: int
    served: int
    moved: int


class World:
    """`down` are the roles that are not to run now, `started` all that were started, the latest
    start last.

    `hiding` is how many faults have taken the projection away from readers; `hidden` goes up
    whenever that changes. `lives` goes up whenever Elasticsearch ends, for it may have lost its
    last second then, and whenever the checkpoints are deleted. `moving` is how many faults have
    copies of Elasticsearch's shards come and go; `moved` goes up whenever that changes. `served` is
    how often a balance service was started. `forgotten` are the accounts that faults have asked to
    forget.
    """

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.ways = Ways(servers.settings)
        self.roles: dict[str, Role] = {}
        self.down: set[str] = {GUEST}
        self.started: list[str] = []
        self.gate = Gate()
        self.hiding = self.hidden = self.lives = 0
        self.moving = self.moved = self.served = 0
        self.forgotten: list[str] = []
        self._copies: Copies = {}

    @property
    def settings(self) -> Settings:
        """They lead straight to the servers."""
        return self.servers.settings

    # ---------------------------------------------------------------- roles

    def of(self, kind: str) -> list[str]:
        """The names of the roles of a kind, the guest excepted."""
        return [name for name, each in ROLES.items() if each == kind and name != GUEST]

    async def start(self, name: str, **environ: str) -> None:
        """Start a role unless it runs; `environ` is for this life alone."""
        if name in self.down:
            self.down.discard(name)
            self._note_start(name)
            self.served += ROLES[name] == "balances"
            role = self.roles[name]
            usual, role.environ = role.environ, {**role.environ, **environ}
            await role.start()
            role.environ = usual

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        if name not in self.down:
            self.down.add(name)
            await self.roles[name].kill(signal.SIGKILL)

    async def leave(self, name: str) -> None:
        """SIGTERM, and wait until it has left in good order."""
        if name not in self.down:
            self.down.add(name)
            await self.roles[name].stop()

    async def thin(self) -> None:
        """Kill all workers and forwarders but the one of each kind that has run for longest: it
        can do all the work, unless it has kept something from an earlier time."""
        for kind in ("worker", "forwarder"):
            _, *others = (name for name in self.started if name in self.of(kind))
            for name in others:
                await self.kill(name)

    def _note_start(self, name: str) -> None:
        self.started = [*(each for each in self.started if each != name), name]

    def fallen(self) -> list[str]:
        """The roles that ended and nobody wanted it."""
        running = [name for name in self.roles if name not in self.down]
        return [name for name in running if self.roles[name].exit_code is not None]

    # ---------------------------------------------------------------- servers

    async def end(self, server: Server, number: int) -> None:
        """End a server by a signal."""
        self.ended(server)
        await server.kill(number)
        self.ended(server)

    def ended(self, server: Server) -> None:
        """Take note that a server ends or has ended, whatever ended it."""
        if server.name == "elasticsearch":
            self.lives += 1

    def hide(self) -> None:
        """From now on readers may miss accounts, until `show` is called as often."""
        self.hiding += 1
        self.hidden += 1

    def show(self) -> None:
        self.hiding -= 1
        self.hidden += 1

    def move(self) -> None:
        """From now on other copies of a shard may answer, until `rest` is called as often."""
        self.moving += 1
        self.moved += 1

    async def rest(self) -> None:
        self._copies = await self.servers.copies()
        self.moving -= 1
        self.moved += 1

    async def look_at_copies(self) -> None:
        """See whether a copy of a shard came or went of itself: `moved` goes up then, too."""
        known, self._copies = self._copies, await self.servers.copies()
        shards = known.keys() & self._copies.keys()
        self.moved += any(known[shard] != self._copies[shard] for shard in shards)

    @property
    def era(self) -> Era:
        return Era(self.lives, self.served, self.moved)

    # ---------------------------------------------------------------- what is spoken to

    @property
    def accounts(self) -> list[str]:
        """URLs of the account services, as clients reach them."""
        return [self.ways.to_clients(name) for name in self.of("accounts")]

    @property
    def balances(self) -> str:
        return self.ways.to_clients("balances-1")

    @asynccontextmanager
    async def nats(self) -> AsyncIterator[Client]:
        """A connection of its own, by no proxy. Raises when the servers are away."""
        client = await connected(self.settings.nats_url)
        try:
            yield client
        finally:
            await client.close()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a request to Elasticsearch, by no proxy."""
        node = await one_that_answers(self.settings.elasticsearch_url)
        return await asked(method, node + path, **options)

    async def ask_balances(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of a request to the balance service, by no proxy."""
        return await asked(method, self._direct("balances-1") + path, **options)

    async def forget(self, account: str, seconds: float = _FORGET_SECONDS) -> bool:
        """Whether the command to forget an account came to its end in time; it is killed else."""
        command = Role(self.settings, "bank", "forget", "--yes", "--wait", "0", account)
        await command.start()
        try:
            async with asyncio.timeout(seconds):
                return await command.wait() == 0
        except TimeoutError:
            await command.kill(signal.SIGKILL)
            return False
        finally:
            await command.close()

    # ---------------------------------------------------------------- from beginning to end

    async def begin(self, stack: AsyncExitStack) -> None:
        """Start all roles on the stack; each is at work afterwards."""
        await self.ways.begin(stack)
        for name, kind in ROLES.items():
            told = await self.ways.told(stack, name, kind)
            words = ["--id", name] if kind == "worker" else []
            self.roles[name] = Role(told, "bank", kind, *words)
        stack.push_async_callback(self._close)
        for name in ROLES:
            if name not in self.down:
                self._note_start(name)
                await self.roles[name].start()
        await self.at_work(_START_SECONDS)
        self._copies = await self.servers.copies()

    async def restore(self) -> None:
        """Undo whatever faults have left: all servers and roles run, all ways are open."""
        await self.servers.restore()
        await self.ways.mend()
        await self.leave(GUEST)
        for name in ROLES.keys() - {GUEST}:
            await self.start(name)
            await self.roles[name].kill(signal.SIGCONT)

    async def ready(self, name: str) -> bool:
        """Whether a service says so, asked by no proxy."""
        return (await asked("GET", self._direct(name) + "/readyz"))[0] == 200

    async def at_work(self, seconds: float) -> None:
        """Wait until every service says that it is ready."""
        for name in (name for kind in SERVICES for name in self.of(kind)):
            ready = partial(self.ready, name)
            await eventually(ready, seconds=seconds, message=f"{name} is ready", every=0.2)

    async def _close(self) -> None:
        await asyncio.gather(*(role.close() for role in self.roles.values()))

    def _direct(self, name: str) -> str:
        role, kind = self.roles[name], ROLES[name]
        return f"http://127.0.0.1:{role.environ[f'BANK_{kind.upper()}_PORT']}"
