"""Messages of a stream in order, many for one request; no consumer is made for it."""

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import orjson

from pipeline.messaging import JetStream, JetStreamError

BATCH: Final = 1000
_TIMEOUT: Final = 5.0
_ENDS: Final = ("204", "404")


class Message(NamedTuple):
    """As the stream holds it."""

    subject: str
    sequence: int
    data: bytes


async def messages(
    js: JetStream, stream: str, begin: dict[str, Any]
) -> AsyncIterator[list[Message]]:
    """All there are now, in lists, from where they `begin`: `{"seq": 7}` or `{"start_time": …}`.

    Raises `JetStreamError`, and `TimeoutError` when nothing comes for 5 seconds.
    """
    while found := await _batch(js, stream, begin):
        yield found
        begin = {"seq": found[-1].sequence + 1}


async def _batch(js: JetStream, stream: str, begin: dict[str, Any]) -> list[Message]:
    inbox = js.nc.new_inbox()
    answers = await js.nc.subscribe(inbox)
    try:
        wanted = orjson.dumps({**begin, "batch": BATCH, "next_by_subj": ">"})
        await js.nc.publish(f"$JS.API.DIRECT.GET.{stream}", wanted, reply=inbox)
        found: list[Message] = []
        while True:
            answer = await answers.next_msg(_TIMEOUT)
            headers = answer.headers or {}
            status = headers.get("Status")
            if status in _ENDS:
                return found
            if status is not None:
                raise JetStreamError(int(status), headers.get("Description", ""))
            found.append(
                Message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), answer.data)
            )
    finally:
        await answers.unsubscribe()
