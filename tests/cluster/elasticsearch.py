"""A cluster of real Elasticsearch nodes on loopback, each to kill, freeze and start again."""

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from pipeline.embedded.processes import Child, Children
from tests.harness import eventually
from tests.ports import free_port
from tests.proxy import TcpProxy

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from with_elasticsearch import fetched, java_home, prepare, start

HEAP: Final = "512m"
PROMPT: Final = {
    f"cluster.fault_detection.{who}_check.{name}": value
    for who in ("follower", "leader")
    for name, value in {"interval": "1s", "timeout": "2s", "retry_count": 2}.items()
}
"""A node that hangs is noticed after 3 to 6 s. By default it is after about 32: the master and the
others ask each other every second, wait for 10 s, and ask three times."""
_STARTED: Final = 400.0
_ANSWERED: Final = 4.0


class Node:
    """One node; `url` leads to it."""

    def __init__(self, home: Path, url: str, java: str, children: Children) -> None:
        self.home, self.url = home, url
        self._java, self._children = java, children
        self._child: Child | None = None
        self.runs = False

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        log = self.home / "elasticsearch.log"
        self._child = start(self._children, self.home, self._java, log, heap=HEAP)
        self.runs = True

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for the end of what that ends, or until it stands still."""
        assert self._child is not None
        self.runs = False
        if number == signal.SIGSTOP:
            await self._child.pause()
            return
        self._child.kill(number)
        await self._child.wait()
        self._children.forget(self._child)

    async def back(self) -> None:
        """Have it run again: thawed, or started if it was killed."""
        assert self._child is not None
        if self._child.exit_code is None:
            self._child.kill(signal.SIGCONT)
            self.runs = True
        else:
            await asyncio.to_thread(self.start)


class Cluster:
    """`nodes` by name, `n0`, `n1`, …; the first one is the master at first."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """A list of all nodes."""
        return ",".join(node.url for node in self.nodes.values())

    async def whole(self) -> None:
        """Wait until all nodes are there and each copy of each shard is."""
        wanted = {"wait_for_status": "green", "wait_for_nodes": f"{len(self.nodes)}"}
        await eventually(
            lambda: self.ask("GET", "/_cluster/health", **wanted, timeout="2s"), seconds=_STARTED
        )

    async def all_back(self) -> None:
        """Have all nodes run, and wait until the cluster is whole."""
        for node in self.nodes.values():
            if not node.runs:
                await node.back()
        await self.whole()

    async def ask(self, method: str, path: str, body: Any = None, **options: str) -> Any:
        """The answer of the first running node that gives one. Raises when none does, or for an
        error."""
        for node in self.nodes.values():
            if not node.runs:
                continue
            try:
                async with (
                    aiohttp.ClientSession(
                        node.url,
                        raise_for_status=True,
                        timeout=aiohttp.ClientTimeout(_ANSWERED),
                    ) as http,
                    http.request(method, path, json=body, params=options) as answer,
                ):
                    return await answer.json()
            except (aiohttp.ClientConnectionError, TimeoutError):
                continue
        raise AssertionError("no node answers")

    async def agreed(self) -> None:
        """Wait until those that run have a master and no other nodes, and the primaries of all
        shards."""
        running = sum(node.runs for node in self.nodes.values())
        wanted = {"wait_for_status": "yellow", "wait_for_nodes": f"{running}"}
        await eventually(
            lambda: self.ask(
                "GET", "/_cluster/health", **wanted, timeout="1s", master_timeout="1s"
            ),
            seconds=_STARTED,
        )

    async def master(self) -> str:
        """The name of the elected master."""
        (found,) = await self.ask("GET", "/_cat/master", format="json")
        return str(found["node"])

    async def keep_off(self, *names: str) -> None:
        """Have no copy of any shard on these nodes, and wait until that is so."""
        setting = {"cluster.routing.allocation.exclude._name": ",".join(names) or None}
        await self.ask("PUT", "/_cluster/settings", {"persistent": setting})

        async def are_off() -> bool:
            copies = await self.ask("GET", "/_cat/shards", format="json")
            return all(each["node"] not in names for each in copies)

        await eventually(are_off, seconds=_STARTED)

    async def move_primary(self, index: str, to: str) -> None:
        """Have the primary of the index's only shard on the node `to`, which has a replica."""
        if await self.primary(index) != to:
            cancel = {"index": index, "shard": 0, "allow_primary": True}
            command = {"cancel": {**cancel, "node": await self.primary(index)}}
            await self.ask("POST", "/_cluster/reroute", {"commands": [command]})
            await self.whole()
        assert await self.primary(index) == to

    async def primary(self, index: str) -> str:
        """The node with the primary of the index's only shard."""
        return (await self._copies(index))["p"]

    async def replica(self, index: str) -> str:
        """The node with its only replica."""
        return (await self._copies(index))["r"]

    async def _copies(self, index: str) -> dict[str, str]:
        copies = await self.ask("GET", f"/_cat/shards/{index}", format="json")
        return {each["prirep"]: str(each["node"]) for each in copies}


def _folder() -> Path:
    """A new one, which the user can enter that Elasticsearch runs as."""
    folder = Path(tempfile.mkdtemp(prefix="bank-elasticsearch-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def elasticsearch_cluster(
    size: int = 2,
    settings: Mapping[str, object] = {},
    ways: Mapping[str, TcpProxy] = {},
) -> AsyncIterator[Cluster]:
    """So many nodes that have found one another, with data of their own.

    `settings` are added to those of each node. What other nodes ask of one that is named in `ways`
    passes that proxy.
    """
    java, archive = await asyncio.to_thread(lambda: (java_home(), fetched()))
    folder = await asyncio.to_thread(_folder)
    children = Children()
    nodes: dict[str, Node] = {}
    seeds = [free_port() for _ in range(size)]
    try:
        for number, seed in enumerate(seeds):
            name, port = f"n{number}", free_port()
            wanted: dict[str, object] = {
                "cluster.name": "bank",
                "node.name": name,
                "http.port": port,
                "transport.port": seed,
                "discovery.seed_hosts": str([f"127.0.0.1:{each}" for each in seeds]),
                "cluster.initial_master_nodes": "[n0]",
                **settings,
            }
            if way := ways.get(name):
                way.lead_to(f"tcp://127.0.0.1:{seed}")
                wanted["transport.publish_port"] = way.port
            home = folder / name
            await asyncio.to_thread(prepare, home, archive, wanted)
            nodes[name] = Node(home, f"http://127.0.0.1:{port}", java, children)
            await asyncio.to_thread(nodes[name].start)
        cluster = Cluster(nodes)
        await cluster.whole()
        yield cluster
    finally:
        await children.close()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
