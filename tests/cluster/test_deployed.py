"""The servers of Compose's profile `cluster` as it starts them: options, ports, scripts and files.

Each node has an address of its own on loopback, in place of its name. The Kubernetes overlay is
compared with the profile in tests/test_cluster_deployments.py.
"""

import asyncio
import os
import random
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.messaging import JetStream
from pipeline.support.access import ServerAccess
from tests.cluster.elasticsearch import Cluster, Node
from tests.deployed import FILES, SIZES, compose, composed, renamed
from tests.harness import eventually

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from with_elasticsearch import fetched, java_home, prepare

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more loopback addresses"),
]


@pytest.fixture
def names() -> dict[str, str]:
    """An address for the name of each node; other runs of the tests have others."""
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
    return {name: f"{network}.{number}" for number, name in enumerate(compose().nodes, 1)}


@pytest.fixture
async def children(scratch: Path) -> AsyncIterator[Children]:
    children = Children(scratch)
    yield children
    await children.close()


def program(name: str, folder: Path) -> str:
    return str(SERVER_BINARIES[name].command("127.0.0.1", 0, folder)[0])


async def test_the_nats_servers_keep_a_stream_on_all_three(
    names: dict[str, str], children: Children, scratch: Path
) -> None:
    for node in compose().of("nats"):
        address, data = names[node.name], scratch / node.name
        data.mkdir()
        words = [
            word.replace("0.0.0.0", address).replace(node.data, str(data))
            for word in node.spelled(names)
        ]
        command = [program("nats", data), *words, "--addr", address]
        children.start(node.name, command, log=scratch / f"{node.name}.log")
    url = renamed(compose().settings["worker"]["BANK_NATS_URL"], names)
    js = await JetStream.connect(ServerAccess(url, replicas=SIZES["nats"]), "test")
    try:
        await eventually(lambda: js.ensure_stream("all", ["all"]), message="a stream of three")
        info = await js.api("STREAM.INFO.all")
        assert len(info["cluster"]["replicas"]) == SIZES["nats"] - 1
        assert info["cluster"]["name"] == "bank"
    finally:
        await js.close()


class Redis:
    """The servers and sentinels, each started by redis.sh with a folder of its own for /data."""

    def __init__(self, names: dict[str, str], children: Children, scratch: Path) -> None:
        self.names, self._children, self._scratch = names, children, scratch
        self.nodes = {each.name: each for each in compose().of("redis") + compose().of("sentinel")}
        self.running: dict[str, Child] = {}
        (scratch / "bin").mkdir()
        (scratch / "bin" / "valkey-server").symlink_to(program("redis", scratch))

    def start(self, *nodes: str) -> None:
        for name in nodes or self.nodes:
            (data := self.data(name)).mkdir(exist_ok=True)
            told = self.nodes[name].spelled(self.names)
            words = [each.replace("/etc/bank", str(FILES)) for each in told]
            environ = {**small_environment(), "DATA": str(data)}
            environ["PATH"] = f"{self._scratch / 'bin'}:{os.environ['PATH']}"
            self.running[name] = self._children.start(
                name,
                [*words, "--bind", self.names[name]],
                env=environ,
                log=self._scratch / f"{name}.log",
            )

    def data(self, name: str) -> Path:
        return self._scratch / name

    async def kill(self, *nodes: str) -> None:
        for name in nodes or self.nodes:
            self.running[name].kill(9)
            await self.running[name].wait()

    async def ask(self, name: str, *words: str) -> Any:
        port = 26379 if "sentinel" in name else 6379
        async with redis.asyncio.Redis(host=self.names[name], port=port) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def primary_is(self, name: str) -> bool:
        """Whether all sentinels say so, know the replica and have a majority."""
        for each in self.sentinels:
            (host, port) = await self.ask(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "bank")
            if (host.decode(), port) != (self.names[name], b"6379"):
                return False
            assert (await self.ask(each, "SENTINEL", "CKQUORUM", "bank")).startswith(b"OK 3")
            if len(await self.ask(each, "SENTINEL", "REPLICAS", "bank")) != 1:
                return False
        return bool((await self.ask(name, "ROLE"))[0] == b"master")

    async def follows(self, name: str, primary: str) -> bool:
        kind, host, _, state, _ = await self.ask(name, "ROLE")
        return (kind, host.decode(), state) == (b"slave", self.names[primary], b"connected")

    @property
    def sentinels(self) -> Sequence[str]:
        return [name for name in self.nodes if "sentinel" in name]


async def test_who_is_the_primary_outlives_a_restart_of_all(
    names: dict[str, str], children: Children, scratch: Path
) -> None:
    servers = await asyncio.to_thread(Redis, names, children, scratch)
    first, second = (each.name for each in compose().of("redis"))
    servers.start()
    await eventually(lambda: servers.primary_is(first), seconds=180)
    await eventually(lambda: servers.follows(second, first))
    await servers.kill(first)
    await eventually(lambda: servers.primary_is(second), seconds=180)
    servers.start(first)
    await eventually(lambda: servers.follows(first, second), seconds=180)
    at_first = (servers.data(first) / "server.conf").read_text()
    assert f"replicaof {names[second]} 6379" in at_first.splitlines()
    await servers.kill()
    servers.start()
    await eventually(lambda: servers.primary_is(second), seconds=180)
    await eventually(lambda: servers.follows(first, second), seconds=180)


def room_for_files() -> bool:
    """Whether what we start may open as many files as compose.yaml lets Elasticsearch open."""
    wanted = composed()["services"]["cluster-elasticsearch-0"]["ulimits"]["nofile"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, wanted)))
    except (OSError, ValueError):
        return False
    return True


async def test_the_nodes_of_elasticsearch_find_one_another(
    names: dict[str, str], children: Children
) -> None:
    """Its checks for production are enforced, as at addresses that are not loopback, unless this
    machine can't pass that of open files."""
    checked = room_for_files()
    java, archive = await asyncio.to_thread(lambda: (java_home(), fetched()))
    nodes: dict[str, Node] = {}
    with tempfile.TemporaryDirectory(prefix="bank-elasticsearch-") as name:
        (folder := Path(name)).chmod(0o755)  # Elasticsearch does not run as root, and must enter it
        for each in compose().of("elasticsearch"):
            address, home = names[each.name], folder / each.name
            settings = {n: renamed(v, names) for n, v in each.environment.items() if "." in n}
            where = {"network.host": address, "http.port": 9200, "transport.port": 9300}
            await asyncio.to_thread(prepare, home, archive, {**settings, **where})
            options = home / "config" / "jvm.options.d"
            options.mkdir(exist_ok=True)
            if checked:
                (options / "bank.options").write_text("-Des.enforce.bootstrap.checks=true\n")
            nodes[each.name] = Node(home, f"http://{address}:9200", java, children)
            await asyncio.to_thread(nodes[each.name].start)
        cluster = Cluster(nodes)
        wanted = {"wait_for_status": "green", "wait_for_nodes": f"{len(nodes)}", "timeout": "2s"}
        await eventually(lambda: cluster.ask("GET", "/_cluster/health", **wanted), seconds=400)
        listed = await cluster.ask("GET", "/_cat/nodes", format="json", h="node.role")
        assert all("m" in each["node.role"] for each in listed)
        await asyncio.gather(*(each.kill() for each in nodes.values()))
