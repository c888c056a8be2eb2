"""A Redis with a replica and three sentinels on loopback, from the embedded server's program."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from tests.harness import eventually
from tests.ports import free_port

NAME: Final = "bank"
SENTINELS: Final = 3
_REDIS: Final = SERVER_BINARIES["redis"]
_ANSWER_SECONDS: Final = 2.0
_SENTINEL: Final = """\
bind 127.0.0.1
port {port}
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 4000
"""


class Sentinels:
    """`servers` and `sentinels` by port; the sentinels call the primary `bank`."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._folder, self._children = folder, children
        self.servers: dict[int, Child] = {}
        self.sentinels: dict[int, Child] = {}

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    @property
    def all(self) -> dict[int, Child]:
        return {**self.servers, **self.sentinels}

    async def start(self) -> None:
        """Return when each sentinel knows the replica and the other two."""
        first, second = free_port(), free_port()
        self._serve(first)
        self._serve(second, "--replicaof", f"127.0.0.1 {first}")
        for port in (free_port() for _ in range(SENTINELS)):
            file = self._folder / f"{port}.conf"
            file.write_text(_SENTINEL.format(port=port, name=NAME, primary=first))
            self._watch(port)
        await eventually(self.whole, seconds=180, message="the sentinels know all")

    def restart(self, port: int) -> None:
        """Start a server or a sentinel again that was killed. A server comes back as a primary; the
        sentinels make it a replica if there is another."""
        if port in self.sentinels:
            self._watch(port)
        else:
            self._serve(port)

    def _serve(self, port: int, *more: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        command = _REDIS.command("127.0.0.1", port, folder)
        self.servers[port] = self._run(port, *command, "--repl-diskless-sync-delay", "0", *more)

    def _watch(self, port: int) -> None:
        program = _REDIS.command("127.0.0.1", port, self._folder)[0]
        file = self._folder / f"{port}.conf"
        self.sentinels[port] = self._run(port, program, file, "--sentinel")

    def _run(self, port: int, *command: str | Path) -> Child:
        log = self._folder / f"{port}.log"
        return self._children.start(str(port), list(command), env=small_environment(), log=log)

    async def whole(self) -> bool:
        """Whether all sentinels know all others and the same primary, whose replica is in step."""
        states = await self._states()
        if len(states) < SENTINELS or len({state["port"] for state in states}) > 1:
            return False
        knows_all = {"num-other-sentinels": SENTINELS - 1, "num-slaves": 1, "flags": "master"}
        if any(state[name] != wanted for state in states for name, wanted in knows_all.items()):
            return False
        async with _client(int(states[0]["port"])) as client:
            about: dict[str, Any] = await client.info("replication")
        replica: dict[str, Any] = about.get("slave0", {})
        return bool(about["role"] == "master" and replica.get("state") == "online")

    async def primary(self) -> int:
        """The port of the primary, as most sentinels say that answer."""
        ports = [state["port"] for state in await self._states()]
        return int(max(set(ports), key=ports.count))

    async def _states(self) -> list[dict[str, Any]]:
        """What each sentinel that answers knows of the primary."""
        found = await asyncio.gather(*map(self._state, self.sentinels))
        return [state for state in found if state]

    async def _state(self, port: int) -> dict[str, Any]:
        with suppress(RedisError, OSError):
            async with _client(port) as client:
                found: Any = await client.sentinel_masters()
                state: dict[str, Any] = found[NAME]
                return state
        return {}

    async def fail_over(self, number: int | None = signal.SIGKILL) -> int:
        """Kill or freeze the primary, or with None have the sentinels make it a replica; return its
        port when the other one is the primary."""
        old = await self.primary()
        if number is not None:
            self.servers[old].kill(number)
        else:
            await eventually(self._ask, seconds=180)
        await eventually(lambda: self._is_other(old), seconds=180)
        return old

    async def _ask(self) -> bool:
        """A sentinel refuses (NOGOODSLAVE) while it knows no replica in step yet."""
        async with _client(next(iter(self.sentinels))) as client:
            return bool(await client.sentinel_failover(NAME))

    async def _is_other(self, old: int) -> bool:
        return await self.primary() != old


def _client(port: int) -> redis.asyncio.Redis:
    """One server or sentinel of them, which may hang."""
    return redis.asyncio.Redis(
        port=port, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS
    )


@asynccontextmanager
async def sentinels(folder: Path) -> AsyncIterator[Sentinels]:
    """Their data is in `folder`."""
    children = Children()
    made = Sentinels(folder, children)
    try:
        await asyncio.to_thread(folder.mkdir, exist_ok=True, parents=True)
        await made.start()
        yield made
    finally:
        await children.close()
