"""The fast path from the connection to a feed: every message, in order, none after its end."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats import errors
from nats.aio.msg import Msg

from pipeline.messaging import JetStream
from pipeline.messaging.fast_path import frame, header
from tests.harness import Servers, eventually

SIZES = (0, 1, 300, 5_000, 40_000, 200_000)
"""Of messages; what is read at once has 32 KiB."""


class Inbox:
    def __init__(self) -> None:
        self.came: list[tuple[bytes, bytes, bytes, bytes]] = []
        self.statuses: list[bytes] = []

    def receive(self, *message: bytes) -> None:
        if message[2] == b"bad":
            raise ValueError("the receiver's own fault")
        self.came.append(message)  # type: ignore[arg-type]

    async def status(self, message: Msg) -> None:
        self.statuses.append(message.data)


@pytest.fixture
async def js(servers: Servers) -> AsyncIterator[JetStream]:
    js = await JetStream.connect(servers.nats_url, "straight")
    yield js
    await js.close()


async def test_messages_of_all_sizes_come_whole_and_in_order(js: JetStream) -> None:
    inbox, sent = Inbox(), list[tuple[bytes, bytes]]()
    await js.nc.subscribe_fast("straight.all", inbox.receive, inbox.status)
    for number in range(300):
        data = bytes([number % 256]) * SIZES[number % len(SIZES)]
        headers: dict[str, Any] = {"Number": str(number), "Other": "x"} if number % 5 else {}
        await js.nc.publish("straight.all", data, reply=f"ack.{number}", headers=headers)
        sent.append((f"ack.{number}".encode(), data))
    await eventually(lambda: len(inbox.came) == len(sent))
    assert [each[1:3] for each in inbox.came] == sent
    for number, (subject, _, _, headers_) in enumerate(inbox.came):
        assert subject == b"straight.all"
        assert header(headers_, b"Number") == (str(number) if number % 5 else None)
    assert inbox.statuses == []


async def test_what_can_not_be_answered_goes_the_ordinary_way(js: JetStream) -> None:
    inbox = Inbox()
    await js.nc.subscribe_fast("straight.words", inbox.receive, inbox.status)
    await js.nc.publish("straight.words", b"one", headers={"Status": "409"})
    await js.nc.publish("straight.words", b"two", reply="ack", headers={"A": "b"})
    await js.nc.publish("straight.words", b"three")
    await eventually(lambda: len(inbox.statuses) == 2 and len(inbox.came) == 1)
    assert inbox.statuses == [b"one", b"three"]
    assert inbox.came[0][:3] == (b"straight.words", b"ack", b"two")


async def test_a_receiver_that_raises_does_not_end_the_connection(js: JetStream) -> None:
    inbox = Inbox()
    await js.nc.subscribe_fast("straight.bad", inbox.receive, inbox.status)
    for data in (b"bad", b"good"):
        await js.nc.publish("straight.bad", data, reply="ack", headers={"A": "b"})
        await js.nc.publish("straight.bad", data, reply="ack")
    await eventually(lambda: len(inbox.came) == 2)
    await js.ping()


async def test_nothing_is_handed_over_after_the_end(js: JetStream) -> None:
    inbox = Inbox()
    path = await js.nc.subscribe_fast("straight.end", inbox.receive, inbox.status)
    await js.nc.publish("straight.end", b"before", reply="ack")
    await eventually(lambda: len(inbox.came) == 1)
    await path.unsubscribe()
    await js.nc.publish("straight.end", b"after", reply="ack")
    await js.ping()
    assert len(inbox.came) == 1
    assert inbox.statuses == []


async def test_what_is_published_in_one_piece_comes_as_it_was(js: JetStream) -> None:
    came: list[Msg] = []

    async def receive(message: Msg) -> None:
        came.append(message)

    await js.nc.subscribe("straight.piece", cb=receive)
    sent = [({"Number": str(n), "Word": "é"}, bytes(size)) for n, size in enumerate(SIZES)]
    await js.nc.publish_frames([frame("straight.piece", *each) for each in sent])
    await eventually(lambda: len(came) == len(sent))
    assert [(each.headers, each.data) for each in came] == sent


def test_a_header_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one line"):
        frame("straight.piece", {"Name": "value\r\nOther: value"}, b"")


async def test_a_closed_connection_publishes_nothing(servers: Servers) -> None:
    js = await JetStream.connect(servers.nats_url, "straight")
    await js.close()
    with pytest.raises(errors.ConnectionClosedError):
        await js.nc.publish_frames([frame("straight.piece", {}, b"")])
