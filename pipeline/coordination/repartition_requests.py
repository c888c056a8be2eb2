"""The request for another number of partitions: a key of the application's own KV bucket.

`bank repartition N` writes it, the leading forwarder answers it (`forwarder/repartitioner.py`),
both by compare-and-set. There is one request at a time.
"""

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError
from ulid import ULID

from pipeline.coordination.partitioning import MOST
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry, Overtaken
from pipeline.messaging.news import News
from pipeline.model.events import rfc3339

log = logging.getLogger(__name__)

KEY: Final = "repartition"

State = Literal["wanted", "draining", "done", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class RepartitionRequest:
    """A request for `to` partitions, for which the workers have `patience` seconds to drain.

    `since`: RFC 3339. When done: `before` is the number before, `at` the sequence of the change,
    `seconds` how long the forwarder published nothing, if known. When refused: `reason`.
    """

    id: str
    to: Annotated[int, Field(ge=1, le=MOST)]
    patience: Annotated[float, Field(ge=0, le=3600)]
    since: str
    state: State = "wanted"
    reason: str = ""
    before: int | None = None
    at: int | None = None
    seconds: float | None = None
    revision: int = 0

    @property
    def open(self) -> bool:
        """Whether a forwarder has yet to answer it."""
        return self.state in ("wanted", "draining")


_CHECKED: Final = TypeAdapter(RepartitionRequest)


class UnderWay(Exception):
    """Another request is not answered yet."""

    def __init__(self, request: RepartitionRequest) -> None:
        super().__init__(f"a repartition to {request.to} is under way since {request.since}")
        self.request = request


class RepartitionRequests:
    """The request, as one process reads and writes it."""

    def __init__(self, js: JetStream) -> None:
        self._bucket = Bucket(js, js.names.requests)

    def news(self) -> AbstractAsyncContextManager[News]:
        """The news of requests and of answers, while the block runs."""
        return self._bucket.news()

    async def last(self) -> RepartitionRequest | None:
        """The last request, answered or not."""
        return _request(await self._bucket.get(KEY))

    async def again(self, request: RepartitionRequest) -> RepartitionRequest:
        """The request as it is now. Raises `Overtaken` if there is a later one."""
        last = await self.last()
        if last is None or last.id != request.id:
            raise Overtaken("there is a later request")
        return last

    async def ask(
        self, to: int, patience: float, request_id: str | None = None
    ) -> RepartitionRequest:
        """Ask for so many partitions. Raises `UnderWay`.

        Who gives it an id may ask again, when it is not known whether the request has landed.
        """
        now = rfc3339(datetime.now(UTC).replace(tzinfo=None, microsecond=0))
        wanted = RepartitionRequest(request_id or str(ULID()), to, patience, now)

        def after(last: RepartitionRequest | None) -> RepartitionRequest:
            if last is not None and last.id == wanted.id:
                return last
            if last is not None and last.open:
                raise UnderWay(last)
            return wanted

        await self._bucket.ensure()
        return await self._bucket.change(KEY, _request, after) or wanted

    async def change(self, request: RepartitionRequest, **changes: Any) -> RepartitionRequest:
        """Write changed fields. Raises `Overtaken` if another process changed the request."""
        return await self._bucket.write(KEY, replace(request, **changes))


def _request(entry: KeyValueEntry | None) -> RepartitionRequest | None:
    """The request in an entry; None if it is invalid: written by hand."""
    if entry is None:
        return None
    try:
        return _CHECKED.validate_python({**entry.value, "revision": entry.revision})
    except ValidationError as error:
        log.debug("the entry %s is no request: %s", KEY, error)
        return None
