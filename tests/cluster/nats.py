"""A JetStream cluster: embedded nats-servers on loopback, each to kill, freeze, wipe and start."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from pipeline.embedded.processes import Children
from pipeline.embedded.server import Server
from pipeline.embedded.server_binaries import SERVER_BINARIES, ServerBinary
from pipeline.embedded.startup_checks import EmbeddedError
from pipeline.messaging import JetStream, JetStreamError
from tests.harness import eventually
from tests.ports import free_port

_NATS = SERVER_BINARIES["nats"]
_LEADER = re.compile(r"(\S+ \S+) \[INF\] JetStream cluster new \w+ leader for '.*?([^ >]+)'")


class NatsCluster:
    """`servers` by their names, `n0`, `n1`, …; each member knows the routes to all of them."""

    def __init__(
        self, folder: Path, children: Children, size: int, options: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(size)]
        self.servers = {
            f"n{number}": Server(
                _member(f"n{number}", route, routes, options),
                f"nats://127.0.0.1:{free_port()}",
                folder,
                children,
            )
            for number, route in enumerate(routes)
        }

    @property
    def url(self) -> str:
        """The URL of the first one that runs; clients learn those of the others from it."""
        return next(each.url for each in self.servers.values() if _runs(each))

    @property
    def urls(self) -> str:
        """A list of all of them."""
        return ",".join(each.url for each in self.servers.values())

    async def start(self) -> None:
        """Start those that do not run; return when JetStream has a leader and answers."""
        await asyncio.gather(*(each.start() for each in self.servers.values()))
        await self.answers()

    async def answers(self) -> None:
        """Wait until JetStream answers."""
        js = await JetStream.connect(self.url, "test")
        try:
            await eventually(lambda: js.api("INFO"), message="JetStream has a leader")
        finally:
            await js.close()

    async def whole(self) -> None:
        """Wait until a stream can have a replica on each server: the leader may take one that has
        just started for one that is away, though JetStream answers."""
        js, name = await JetStream.connect(self.url, "test"), "whole"
        asked = {"name": name, "subjects": [name], "num_replicas": len(self.servers)}

        async def gone() -> bool:
            with suppress(JetStreamError):  # an answer was lost, and it is not there any more
                await js.api(f"STREAM.DELETE.{name}")
            return name not in ((await js.api("STREAM.NAMES"))["streams"] or ())

        try:
            await eventually(lambda: js.api(f"STREAM.CREATE.{name}", asked), message="replicas")
            await eventually(gone, message="nothing of it is left")
        finally:
            await js.close()

    async def leader(self, js: JetStream, stream: str) -> Server:
        """The server that leads a stream."""

        async def found() -> str:
            info = await js.api(f"STREAM.INFO.{stream}")
            return str(info["cluster"].get("leader") or "")

        return self.servers[await eventually(found, message=f"a leader of {stream}")]

    def server_of(self, pid: int) -> Server | None:
        """The server that a process is connected to, if it is to one."""
        sockets = set()
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed just now
                sockets.add(str(each.readlink()))
        lines = map(str.split, Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
        ports = {int(each[2][-4:], 16) for each in lines if f"socket:[{each[9]}]" in sockets}
        return next((each for each in self.servers.values() if each.port in ports), None)

    def elections(self, since: float) -> list[tuple[float, str]]:
        """When (seconds since the epoch) a stream or a consumer got a new leader, and its name."""
        found = [
            (datetime.strptime(when, "%Y/%m/%d %H:%M:%S.%f").timestamp(), name)
            for each in self.servers.values()
            for when, name in _LEADER.findall(each.log.read_text())
        ]
        return sorted(each for each in found if each[0] > since)

    async def wipe(self, server: Server) -> None:
        """Kill a server and delete its data: what it had is gone with its disk."""
        await server.kill()
        await asyncio.to_thread(shutil.rmtree, server.folder)


@asynccontextmanager
async def nats_cluster(
    folder: Path, size: int = 3, options: Sequence[str] = ()
) -> AsyncIterator[NatsCluster]:
    """So many servers that have found one another, with their data in `folder`; `options` are added
    to the command line of each."""
    children = Children(folder)
    cluster = NatsCluster(folder, children, size, options)
    try:
        await cluster.start()
        await cluster.whole()
        yield cluster
    finally:
        await asyncio.gather(*(each.stop() for each in cluster.servers.values()))
        await children.close()


def _runs(server: Server) -> bool:
    with suppress(EmbeddedError):
        return bool(server.pid)
    return False


def _member(name: str, route: str, routes: Sequence[str], options: Sequence[str]) -> ServerBinary:
    where = ["--cluster_name", "bank", "--cluster", route, "--routes", ",".join(routes)]
    return replace(_NATS, name=name, command=partial(_command, ["-n", name, *where, *options]))


def _command(options: Sequence[str], host: str, port: int, folder: Path) -> list[str | Path]:
    return [*_NATS.command(host, port, folder), *options]
