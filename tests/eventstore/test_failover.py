"""A MongoDB that is no primary any more, behind a name that leads to the one that is.

A member of a replica set in a few lines stands for it: the embedded server has no replicas.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import bson
import pytest
from pymongo.errors import NotPrimaryError

from pipeline.eventstore import EventStore, StoreUnavailable, driver
from tests.harness import eventually
from tests.proxy import TcpProxy

_HEADER = struct.Struct("<iiii")
_OP_QUERY, _OP_REPLY, _OP_MSG = 2004, 1, 2013


class Member:
    """Answers hello, inserts and finds. A secondary refuses inserts, and answers finds."""

    def __init__(self, name: str, *, primary: bool) -> None:
        self.name, self.primary, self.inserted = name, primary, 0
        self._connections = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"mongodb://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield
            await eventually(lambda: not self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            while True:
                length, request, _, code = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                if code == _OP_QUERY:
                    answer = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(self._hello())
                    reply = _OP_REPLY
                else:
                    size = struct.unpack_from("<i", body, 5)[0]
                    command = bson.decode(body[5 : 5 + size])
                    answer = b"\0" * 5 + bson.encode(self._answer(command))
                    reply = _OP_MSG
                writer.write(_HEADER.pack(16 + len(answer), 1, request, reply) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            self._connections -= 1

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        match next(iter(command)):
            case "hello" | "ismaster" | "isMaster":
                return self._hello()
            case "insert" if not self.primary:
                return {"ok": 0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "no"}
            case "insert":
                self.inserted += 1
                return {"ok": 1, "n": 1}
            case "find":
                batch = [{"_id": self.name}]
                return {"ok": 1, "cursor": {"id": 0, "ns": "bank.events", "firstBatch": batch}}
        return {"ok": 1}

    def _hello(self) -> dict[str, Any]:
        return {
            "ok": 1,
            "helloOk": True,
            "isWritablePrimary": self.primary,
            "ismaster": self.primary,
            "secondary": not self.primary,
            "setName": "rs0",
            "hosts": ["m1:27017", "m2:27017"],
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 100000,
        }


async def test_a_secondary_that_is_read_directly_is_not_ready() -> None:
    member = Member("one", primary=False)
    async with member.listening():
        store = EventStore(f"{member.url}/?directConnection=true", "bank")
        with pytest.raises(StoreUnavailable, match="no primary"):
            await store.ping()
        member.primary = True
        await eventually(lambda: _answers(store))
        await store.close()


async def _answers(store: EventStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("use", ["writes", "reads"])
async def test_a_direct_connection_follows_the_name(use: str) -> None:
    """Who writes is told; who only reads is not, but the driver looks at the server regularly."""
    old, new = Member("old", primary=True), Member("new", primary=False)
    async with AsyncExitStack() as stack:
        for member in (old, new):
            await stack.enter_async_context(member.listening())
        way = await stack.enter_async_context(TcpProxy(old.url))
        client = driver.client(
            f"{way.url}/?directConnection=true&heartbeatFrequencyMS=500", retryWrites=False
        )
        stack.callback(client.close)
        events = client["bank"]["events"]
        await asyncio.gather(*(events.insert_one({}) for _ in range(5)))
        assert (old.inserted, new.inserted) == (5, 0)
        old.primary, new.primary = False, True
        way.lead_to(new.url)
        if use == "writes":
            with pytest.raises(NotPrimaryError):
                await events.insert_one({})
            await eventually(lambda: events.insert_one({}))
            assert new.inserted == 1
            await events.insert_one({})
        else:

            async def moved() -> bool:
                found = await events.find_one({})
                return found is not None and found["_id"] == "new"

            await eventually(moved)
