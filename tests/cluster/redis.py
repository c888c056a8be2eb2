"""A Redis with a replica and three sentinels on loopback, from the embedded server's program."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import redis.asyncio

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from tests.harness import eventually
from tests.ports import free_port

NAME: Final = "bank"
_REDIS: Final = SERVER_BINARIES["redis"]
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

    async def start(self) -> None:
        """Return when each sentinel knows the replica and the other two."""
        first, second = free_port(), free_port()
        self._serve(first)
        self._serve(second, "--replicaof", f"127.0.0.1 {first}")
        for port in (free_port() for _ in range(3)):
            file = self._folder / f"{port}.conf"
            file.write_text(_SENTINEL.format(port=port, name=NAME, primary=first))
            program = _REDIS.command("127.0.0.1", port, self._folder)[0]
            self.sentinels[port] = self._run(port, program, file, "--sentinel")
        await eventually(self._whole, seconds=60)

    def restart(self, port: int) -> None:
        """Start a server again that was killed; it comes back as what it was."""
        self._serve(port)

    def _serve(self, port: int, *more: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        command = _REDIS.command("127.0.0.1", port, folder)
        self.servers[port] = self._run(port, *command, "--repl-diskless-sync-delay", "0", *more)

    def _run(self, port: int, *command: str | Path) -> Child:
        log = self._folder / f"{port}.log"
        return self._children.start(str(port), list(command), env=small_environment(), log=log)

    async def _whole(self) -> bool:
        states = [await self._state(port) for port in self.sentinels]
        return all((s["num-other-sentinels"], s["num-slaves"]) == (2, 1) for s in states)

    async def primary(self) -> int:
        """The port of the primary, as most sentinels say."""
        ports = [(await self._state(port))["port"] for port in self.sentinels]
        return int(max(set(ports), key=ports.count))

    async def _state(self, port: int) -> dict[str, Any]:
        async with redis.asyncio.Redis(port=port) as client:
            found: Any = await client.sentinel_masters()
            state: dict[str, Any] = found[NAME]
            return state

    async def fail_over(self, number: int | None = signal.SIGKILL) -> int:
        """Kill or freeze the primary, or with None have the sentinels make it a replica; return its
        port when the other one is the primary."""
        old = await self.primary()
        if number is not None:
            self.servers[old].kill(number)
        else:
            await eventually(self._ask, seconds=60)
        await eventually(lambda: self._is_other(old), seconds=60)
        return old

    async def _ask(self) -> bool:
        """A sentinel refuses (NOGOODSLAVE) while it knows no replica in step yet."""
        async with redis.asyncio.Redis(port=next(iter(self.sentinels))) as client:
            return bool(await client.sentinel_failover(NAME))

    async def _is_other(self, old: int) -> bool:
        return await self.primary() != old


@asynccontextmanager
async def sentinels(folder: Path) -> AsyncIterator[Sentinels]:
    """Their data is in `folder`."""
    children = Children()
    made = Sentinels(folder, children)
    try:
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        await made.start()
        yield made
    finally:
        await children.close()
