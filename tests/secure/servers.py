"""Servers that speak TLS to those who show a certificate, and let in those who say who they are.

nats-server and SecantusDB do so themselves. The wheel's Valkey speaks no TLS and noida-db neither
that nor of users: before them stands a proxy that does.
"""

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import trustme
from multidict import CIMultiDict
from pydantic import SecretStr

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import SERVER_BINARIES
from tests.harness import eventually
from tests.ports import free_port
from tests.proxy.http import Forward, HttpProxy, Reply, Request
from tests.proxy.tcp import TcpProxy

USER = "bank"


@dataclass
class Servers:
    """`told` are the settings that say how to reach them; `children` run them."""

    made: Path
    children: Children
    told: dict[str, Any] = field(default_factory=dict)

    def password(self, server: str) -> str:
        return (self.made / "bank" / f"{server}_password").read_text().strip()


def shown(made: Path, server: str) -> dict[str, Any]:
    """The settings of TLS to one server."""
    found = {"ca_file": made / "bank" / "ca.pem", "cert_file": made / "bank" / "client.pem"}
    return {f"{server}_{name}": path for name, path in found.items()}


def context(folder: Path) -> ssl.SSLContext:
    """What a server goes by that wants to see a certificate."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    found.load_cert_chain(folder / "server.pem")
    found.verify_mode = ssl.CERT_REQUIRED
    return found


def presenting(cert: trustme.LeafCert) -> ssl.SSLContext:
    """What a server goes by that has this certificate, and asks for none."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cert.configure_cert(found)
    return found


@asynccontextmanager
async def secured(scratch: Path, made: Path) -> AsyncIterator[Servers]:
    """All four."""
    servers = Servers(made, Children())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(servers.children.close)
        authorization = (made / "nats" / "authorization.conf").read_text()
        urls = {
            "nats": await nats(servers.children, scratch, made, authorization),
            "mongodb": await mongodb(servers, scratch),
            "redis": await stack.enter_async_context(redis_by_proxy(servers, scratch)),
            "elasticsearch": await stack.enter_async_context(elasticsearch(servers, scratch)),
        }
        for server, url in urls.items():
            password = SecretStr(servers.password(server))
            servers.told |= {f"{server}_url": url, **shown(made, server)}
            servers.told |= {f"{server}_user": USER, f"{server}_password": password}
        yield servers


async def nats(children: Children, scratch: Path, made: Path, authorization: str) -> str:
    """nats-server with that piece of configuration; returns its URL."""
    port, folder = free_port(), scratch / f"nats-{free_port()}"
    folder.mkdir()
    config = folder / "nats.conf"
    keys = made / "nats"
    config.write_text(
        f"""
        listen: "127.0.0.1:{port}"
        jetstream {{ store_dir: "{folder}" }}
        tls {{
          cert_file: "{keys}/server.crt", key_file: "{keys}/server.key"
          ca_file: "{keys}/ca.pem", verify: true
        }}
        {authorization}
        """
    )
    program = SERVER_BINARIES["nats"].command("127.0.0.1", port, folder)[0]
    run(children, [program, "-c", config], folder)
    return f"tls://127.0.0.1:{port}"


def violations(scratch: Path) -> list[str]:
    """What nats-server says of subjects that its user may not use."""
    (log,) = scratch.glob("nats-*.log")
    return [line for line in log.read_text().splitlines() if "Violation" in line]


async def mongodb(servers: Servers, scratch: Path) -> str:
    """SecantusDB: without authorisation to make the user, then with it."""
    port, folder, keys = free_port(), scratch / "mongodb", servers.made / "mongodb"
    folder.mkdir()
    command = SERVER_BINARIES["mongodb"].command("127.0.0.1", port, folder)
    first = run(servers.children, command, folder)
    with pymongo.MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}") as client:
        told: dict[str, Any] = {"pwd": servers.password("mongodb"), "roles": ["root"]}
        client.admin.command({"createUser": USER, **told})
    await servers.children.stop(first)
    tls = ["--tls-cert-file", keys / "server.crt", "--tls-key-file", keys / "server.key"]
    tls += ["--tls-ca-file", keys / "ca.pem", "--tls-require-client-cert", "--auth"]
    run(servers.children, [*command, *tls], folder)
    return f"mongodb://127.0.0.1:{port}/?authSource=admin"


@asynccontextmanager
async def redis_by_proxy(servers: Servers, scratch: Path) -> AsyncIterator[str]:
    """redis-server with the script's users, behind TLS."""
    port, folder, keys = free_port(), scratch / "redis", servers.made / "redis"
    folder.mkdir()
    command = SERVER_BINARIES["redis"].command("127.0.0.1", port, folder)
    run(servers.children, [*command, "--aclfile", keys / "users.acl"], folder)
    async with TcpProxy(f"rediss://127.0.0.1:{port}", context(keys)) as proxy:
        yield proxy.url


class Authorization:
    """Lets in who says the user and the password, or the API key; a fault of the proxy's."""

    def __init__(self, *allowed: str) -> None:
        self.allowed, self.refused = set(allowed), 0

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if request.headers.get("Authorization") in self.allowed:
            return await forward(request)
        self.refused += 1
        body = b'{"error":{"type":"security_exception","reason":"unable to authenticate"}}'
        headers = CIMultiDict({"Content-Type": "application/json"})
        return Reply(401, headers, body)


@asynccontextmanager
async def elasticsearch(servers: Servers, scratch: Path) -> AsyncIterator[str]:
    """noida-db behind a check of the header, behind TLS."""
    port, folder = free_port(), scratch / "elasticsearch"
    folder.mkdir()
    run(
        servers.children,
        SERVER_BINARIES["elasticsearch"].command("127.0.0.1", port, folder),
        folder,
    )
    await eventually(lambda: SERVER_BINARIES["elasticsearch"].healthy("127.0.0.1", port))
    proof = b64encode(f"{USER}:{servers.password('elasticsearch')}".encode()).decode()
    keys = servers.made / "elasticsearch"
    async with HttpProxy(f"http://127.0.0.1:{port}") as proxy:
        target = proxy.url.replace("http", "https", 1)
        with proxy.faulty(Authorization(f"Basic {proof}", f"ApiKey {API_KEY}")):
            async with TcpProxy(target, context(keys)) as outer:
                yield outer.url


API_KEY = b64encode(b"an-id:a-key-of-elasticsearch").decode()


def run(children: Children, command: list[Any], folder: Path) -> Child:
    return children.start(
        Path(command[0]).name, command, env=small_environment(), log=folder.with_suffix(".log")
    )
