"""A cluster of real Elasticsearch nodes on loopback, each to kill, freeze and start again."""

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from pipeline.embedded.processes import Child, Children
from tests.harness import eventually
from tests.ports import free_port

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from with_elasticsearch import fetched, java_home, prepare, start

HEAP: Final = "512m"
_STARTED: Final = 180.0


class Node:
    """One node; `url` leads to it."""

    def __init__(self, home: Path, url: str, java: str, children: Children) -> None:
        self.home, self.url = home, url
        self._java, self._children = java, children
        self._child: Child | None = None

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        log = self.home / "elasticsearch.log"
        self._child = start(self._children, self.home, self._java, log, heap=HEAP)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for the end of what that ends."""
        assert self._child is not None
        self._child.kill(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            await self._child.wait()
            self._children.forget(self._child)


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

    async def ask(self, method: str, path: str, body: Any = None, **options: str) -> Any:
        """The answer of the first node that gives one. Raises when none does, or for an error."""
        for node in self.nodes.values():
            try:
                async with (
                    aiohttp.ClientSession(node.url, raise_for_status=True) as http,
                    http.request(method, path, json=body, params=options) as answer,
                ):
                    return await answer.json()
            except aiohttp.ClientConnectionError:
                continue
        raise AssertionError("no node answers")

    async def move_primary(self, index: str, to: str) -> None:
        """Have the primary of the index's only shard on the node `to`, which has a replica."""
        if await self._primary(index) != to:
            cancel = {"index": index, "shard": 0, "allow_primary": True}
            command = {"cancel": {**cancel, "node": await self._primary(index)}}
            await self.ask("POST", "/_cluster/reroute", {"commands": [command]})
            await self.whole()
        assert await self._primary(index) == to

    async def _primary(self, index: str) -> str:
        """The node with the primary of the index's only shard."""
        copies = await self.ask("GET", f"/_cat/shards/{index}", format="json")
        return next(str(each["node"]) for each in copies if each["prirep"] == "p")


def _folder() -> Path:
    """A new one, which the user can enter that Elasticsearch runs as."""
    folder = Path(tempfile.mkdtemp(prefix="bank-elasticsearch-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def elasticsearch_cluster(size: int = 2) -> AsyncIterator[Cluster]:
    """So many nodes that have found one another, with data of their own."""
    java, archive = await asyncio.to_thread(lambda: (java_home(), fetched()))
    folder = await asyncio.to_thread(_folder)
    children = Children()
    nodes: dict[str, Node] = {}
    seeds = [free_port() for _ in range(size)]
    try:
        for number, seed in enumerate(seeds):
            name, port = f"n{number}", free_port()
            wanted = {
                "cluster.name": "bank",
                "node.name": name,
                "http.port": port,
                "transport.port": seed,
                "discovery.seed_hosts": str([f"127.0.0.1:{each}" for each in seeds]),
                "cluster.initial_master_nodes": "[n0]",
            }
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
