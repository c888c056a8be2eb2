"""Changes the number of partitions; part of the leading forwarder (docs/repartition.md).

The leader stops, waits until the workers have applied and acknowledged all there is, publishes one
message with the new number, and goes on. That message is fenced as every batch is: it does not land
if another forwarder has published meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from nats.errors import Error as NatsError

from pipeline.coordination.consumer_progress import (
    ConsumerProgress,
    consumer_progress,
    last_sequences,
)
from pipeline.coordination.partitioning import Partitioning
from pipeline.coordination.repartition_requests import RepartitionRequest, RepartitionRequests
from pipeline.forwarder.stream_publisher import StreamPublisher
from pipeline.messaging import JetStream, JetStreamError, OutgoingMessage
from pipeline.messaging.answers import ANSWERS
from pipeline.messaging.kv import Overtaken
from pipeline.messaging.news import SELDOM, News
from pipeline.support.cancellation import cancel_and_wait, raise_if_cancelled
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5
NEAR_SECONDS: Final = 2.0
"""The forwarder stops when no worker is further behind than that, so the stop is that short."""
SETTLED_SECONDS: Final = 5.0
"""After that time no worker goes by the old number, and would create its consumers again."""
_POLL_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.1
"""For so long a look that answers keeps events waiting."""


class _Look(NamedTuple):
    """The last request and, if it is open, the last sequence of each partition, and how far the
    workers are with it."""

    request: RepartitionRequest | None
    last: tuple[int, ...]
    progress: list[ConsumerProgress]


class Repartitioner:
    """Follows requests, and carries them out while `following`. Part of one leadership.

    It waits for the workers of `projections`; others backfill what they lack.
    """

    def __init__(
        self, js: JetStream, publisher: StreamPublisher, projections: Sequence[str]
    ) -> None:
        self._names = js.names
        self._js, self._publisher, self._projections = js, publisher, projections
        self._requests = RepartitionRequests(js)
        self._news = News()
        self._checked, self._under_way = 0.0, True
        self._request_id, self._since = (
            "",
            0.0,
        )  # of the open request: its id, and when we first read it
        self._ends: list[tuple[float, tuple[int, ...]]] = []  # when, and where partitions ended
        self._first: dict[
            int, tuple[int, int]
        ] = {}  # by partition, at first: its floor and its end
        self._tidy_at: float | None = None
        self._looking: asyncio.Task[_Look] | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Have news of requests while the block runs."""
        async with self._requests.news() as self._news:
            try:
                yield
            finally:
                if self._looking is not None:
                    await cancel_and_wait(self._looking)

    async def step(self, now: Partitioning, token: str, lost: asyncio.Event) -> Partitioning:
        """The partitioning to go on with. All changes before `token` are in the log."""
        found = await self._found(now)
        if found is None:
            return now
        request = found.request
        if request is None or not request.open:
            self._under_way = self._tidy_at is not None
            return now
        if request.id != self._request_id:
            self._request_id, self._since = request.id, self._checked
            self._ends.clear()
            self._first.clear()
            log.info("Asked for %d partitions", request.to)
        with suppress(Overtaken):  # withdrawn
            return await self._carry_out(request, found, now, token, lost)
        return now

    async def _found(self, now: Partitioning) -> _Look | None:
        """What a look has found; None if none is due, or while it lasts.

        Events do not wait for it: the requests' bucket and the consumers have leaders of their own,
        and each may be away.
        """
        if self._looking is None:
            often = self._under_way or self._news.came
            if time.monotonic() - self._checked < (CHECK_SECONDS if often else SELDOM):
                return None
            self._checked = time.monotonic()
            self._news.reading()
            self._under_way = True  # until it is known that there is none
            self._looking = asyncio.create_task(self._look(now))
            # Nobody reads the error of a look that has failed when the leadership ends.
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.wait({self._looking}, timeout=_LOOK_SECONDS)
        if not self._looking.done():
            return None
        looking, self._looking = self._looking, None
        try:
            return looking.result()
        except ANSWERS:
            raise
        except (NatsError, JetStreamError) as error:
            log.debug("Looking for a request: %r", error)
            return None

    async def _look(self, now: Partitioning) -> _Look:
        if self._tidy_at is not None and self._checked > self._tidy_at:
            await self.tidy(now)
        request = await self._requests.last()
        if request is None or not request.open or request.to == now.count:
            return _Look(request, (), [])
        last = await last_sequences(self._js, now)
        partitions = range(now.count)
        found = await consumer_progress(self._js, now, last, partitions, self._projections)
        return _Look(request, last, found)

    async def tidy(self, now: Partitioning) -> None:
        """Copy the number to the stream's metadata, for a log that loses the message, and delete
        the consumers of partitions that are gone. Nothing depends on either, so errors are logged.
        """
        self._tidy_at = None
        try:
            await self._note(now)
            for name in await _consumers(self._js):
                number = name.rpartition("-")[2]
                if number.isdecimal() and int(number) >= now.count:
                    await self._js.api(f"CONSUMER.DELETE.{self._names.log}.{name}")
        except Exception as error:
            log.warning("Tidying up after a repartition: %s", brief(error))

    async def _note(self, now: Partitioning) -> None:
        config = await self._js.config(self._names.log) or {}
        metadata: dict[str, str] = config.get("metadata") or {}
        if config and not now.metadata().items() <= metadata.items():
            config["metadata"] = metadata | now.metadata()
            await self._js.api(f"STREAM.UPDATE.{self._names.log}", config)

    async def _carry_out(
        self,
        request: RepartitionRequest,
        look: _Look,
        now: Partitioning,
        token: str,
        lost: asyncio.Event,
    ) -> Partitioning:
        if request.to == now.count:  # also if a leader before us died after the switch
            await self._requests.change(request, state="done", before=now.before, at=now.at)
            return now
        for each in look.progress:
            self._first.setdefault(each.partition, (each.floor, look.last[each.partition]))
        if not self._near(look.progress, look.last):
            if time.monotonic() - self._since <= request.patience:
                return now
            if idle := self._idle(look.progress):
                await self._refuse(request, idle)
                return now
        return await self._switch(request, now, token, lost)

    def _near(self, found: list[ConsumerProgress], last: tuple[int, ...]) -> bool:
        """Whether all that was there two seconds ago is done, so that the rest won't take long.

        Until then, or until the request's patience is over, the forwarder goes on: workers that
        are always behind may need more partitions for that very reason.
        """
        recent = [each for each in self._ends if self._checked - each[0] < NEAR_SECONDS]
        self._ends = [*recent, (self._checked, last)]
        _, then = self._ends[0]
        return all(each.events is not None and each.floor >= then[each.partition] for each in found)

    def _idle(self, found: list[ConsumerProgress]) -> list[ConsumerProgress]:
        """The partitions that had events to apply all the while, and no worker that did."""
        idle = []
        for each in found:
            floor, end = self._first[each.partition]
            if each.events is None or floor == each.floor < end:
                idle.append(each)
        return idle

    async def _switch(
        self, request: RepartitionRequest, now: Partitioning, token: str, lost: asyncio.Event
    ) -> Partitioning:
        """Stop, drain, commit; the order is what makes it safe.

        From the first message on the log rejects every other forwarder. Nothing is forwarded until
        the commit, so no event can go to a partition of the old number after the workers have
        drained. The commit expects the log's end: it lands only if nobody else has published.
        """
        request = await self._requests.change(request, state="draining")
        began = time.monotonic()
        await self._publisher.publish([OutgoingMessage(self._names.token_subject, b"")], token)
        last = await last_sequences(self._js, now)
        if not await self._drained(request, now, last, lost, began):
            return now
        after = now.followed_by(request.to, self._publisher.sequence + 1, last)
        await self._publisher.publish([after.message(self._names)], token)
        seconds = round(time.monotonic() - began, 3)
        log.info(
            "%d -> %d partitions after sequence %d; nothing was forwarded for %.2f s",
            now.count,
            after.count,
            after.at,
            seconds,
        )
        self._tidy_at = time.monotonic() + SETTLED_SECONDS
        # The switch stands, whatever became of the request meanwhile.
        with suppress(Overtaken):
            await self._requests.change(
                request, state="done", before=now.count, at=after.at, seconds=seconds
            )
        return after

    async def _drained(
        self,
        request: RepartitionRequest,
        now: Partitioning,
        last: tuple[int, ...],
        lost: asyncio.Event,
        began: float,
    ) -> bool:
        """Wait until the workers have applied and acknowledged all up to `last`.

        False if the lease is lost (the next leader carries it out), or after the request's patience
        (it is refused), which counts from `began`.
        """
        left: Iterable[int] = range(now.count)
        while late := await self._late(now, last, left):
            raise_if_cancelled()
            if lost.is_set():
                return False
            if time.monotonic() - began > request.patience:
                await self._refuse(request, late)
                return False
            left = [each.partition for each in late]
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _late(
        self, now: Partitioning, last: tuple[int, ...], left: Iterable[int]
    ) -> list[ConsumerProgress]:
        found = await consumer_progress(self._js, now, last, left, self._projections)
        return [each for each in found if not each.done]

    async def _refuse(self, request: RepartitionRequest, late: list[ConsumerProgress]) -> None:
        more = f", and {len(late) - 1} more are behind" if len(late) > 1 else ""
        reason = f"after {request.patience:g} s {late[0]}{more}"
        log.warning("Not repartitioned: %s", reason)
        await self._requests.change(request, state="refused", reason=reason)


async def _consumers(js: JetStream) -> list[str]:
    names: list[str] = (await js.api(f"CONSUMER.NAMES.{js.names.log}")).get("consumers") or []
    return names
