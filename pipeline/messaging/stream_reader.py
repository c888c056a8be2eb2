"""Messages of a stream in order, up to 1000 with one request, without a consumer.

`DIRECT.GET` may be answered by any replica, which may be a moment behind. Whoever needs the newest
message for certain asks the stream's leader: `JetStream.last_message`.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from nats.errors import NoRespondersError

from pipeline.messaging.client import JetStream
from pipeline.messaging.values import JetStreamError, StoredMessage

BATCH: Final = 1000
_TIMEOUT: Final = 5.0
_NO_MORE: Final = ("204", "404")
"""The statuses that end an answer: after its last message, and where there was none."""
_NO_RESPONDERS: Final = "503"


async def messages(
    js: JetStream, stream: str, begin: dict[str, Any]
) -> AsyncIterator[list[StoredMessage]]:
    """All messages there are now, in lists, from `{"seq": 7}` or `{"start_time": …}` on.

    Raises as `read` does.
    """
    while found := await read(js, stream, {"next_by_subj": ">", "batch": BATCH, **begin}):
        yield found
        begin = {"seq": found[-1].sequence + 1}


async def read(js: JetStream, stream: str, query: dict[str, Any]) -> list[StoredMessage]:
    """The messages that one request to `DIRECT.GET` finds, in order; none beyond the stream's end.

    Each has the headers `Nats-Time-Stamp` (when the server got it, RFC 3339) and
    `Nats-Num-Pending` (how many more match the query). Raises `JetStreamError`, `NoRespondersError`
    if no replica of the stream answers, and `TimeoutError` if nothing comes for 5 seconds.
    """
    inbox = js.nc.new_inbox()
    answers = await js.nc.subscribe(inbox)
    try:
        await js.nc.publish(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(query), reply=inbox)
        found: list[StoredMessage] = []
        while True:
            answer = await answers.next_msg(_TIMEOUT)
            headers = answer.headers or {}
            # Who publishes may set any header: a message of the stream has a sequence.
            status = None if "Nats-Sequence" in headers else headers.get("Status")
            if status in _NO_MORE:
                return found
            if status == _NO_RESPONDERS:
                raise NoRespondersError
            if status is not None:
                raise JetStreamError(int(status), headers.get("Description", ""))
            subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
            found.append(StoredMessage(subject, answer.data, headers, sequence))
    finally:
        await answers.unsubscribe()
