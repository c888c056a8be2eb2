"""Another number of partitions, as the leading forwarder brings it about (docs/repartition.md).

It stops, waits until the workers have applied and acknowledged all there is, writes one message
that says the new number, and goes on. The log's own fence decides: whoever else has written
meanwhile, that message does not land.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from pipeline.coordination.consumer_progress import (
    ConsumerProgress,
    consumer_progress,
    last_sequences,
)
from pipeline.coordination.partitioning import Partitioning
from pipeline.coordination.repartition_requests import RepartitionRequest, RepartitionRequests
from pipeline.forwarder.stream_publisher import StreamPublisher
from pipeline.messaging import STREAM, TOKEN_SUBJECT, JetStream, OutgoingMessage
from pipeline.messaging.kv import Overtaken
from pipeline.model.projection import FIRST
from pipeline.support.cancellation import heed_cancellation
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
NEAR_SECONDS: Final = 2.0
"""The forwarder stops when nobody is further behind than that: so short will the stop be."""
SETTLED_SECONDS: Final = 5.0
"""After so long nobody believes the old number, who would make its consumers again."""
_POLL_SECONDS: Final = 0.02


class Repartitioner:
    """Looks for a request now and then, and carries it out. Part of one leader's term.

    It waits for the workers of these projections; any other one backfills what it lacks.
    """

    def __init__(
        self, js: JetStream, writer: StreamPublisher, projections: Sequence[str] = (FIRST,)
    ) -> None:
        self._js, self._writer, self._projections = js, writer, projections
        self._requests = RepartitionRequests(js)
        self._looked = 0.0
        self._seen, self._since = "", 0.0  # the request's id, and when we first saw it
        self._ends: list[tuple[float, tuple[int, ...]]] = []  # when, and where partitions ended
        self._first: dict[int, tuple[int, int]] = {}  # at the first look: its floor, and its end
        self._tidy_at: float | None = None

    async def look(self, now: Partitioning, token: str, lost: asyncio.Event) -> Partitioning:
        """The partitioning to go on with. `token`: all before it is in the log."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return now
        self._looked = time.monotonic()
        if self._tidy_at is not None and self._looked > self._tidy_at:
            await self.tidy(now)
        request = await self._requests.last()
        if request is None or not request.open:
            return now
        if request.id != self._seen:
            self._seen, self._since = request.id, self._looked
            self._ends.clear()
            self._first.clear()
            log.info("Asked for %d partitions", request.to)
        with suppress(Overtaken):  # withdrawn
            return await self._carry_out(request, now, token, lost)
        return now

    async def tidy(self, now: Partitioning) -> None:
        """The stream's metadata says the number too, for a log that loses the message; consumers
        of partitions that are no more go. Nothing rests on either."""
        self._tidy_at = None
        try:
            await self._note(now)
            for name in await _consumers(self._js):
                number = name.rpartition("-")[2]
                if number.isdecimal() and int(number) >= now.count:
                    await self._js.api(f"CONSUMER.DELETE.{STREAM}.{name}")
        except Exception as error:
            log.warning("Tidying up after a repartition: %s", brief(error))

    async def _note(self, now: Partitioning) -> None:
        config = await self._js.config(STREAM) or {}
        metadata: dict[str, str] = config.get("metadata") or {}
        if config and not now.metadata().items() <= metadata.items():
            config["metadata"] = metadata | now.metadata()
            await self._js.api(f"STREAM.UPDATE.{STREAM}", config)

    async def _carry_out(
        self, request: RepartitionRequest, now: Partitioning, token: str, lost: asyncio.Event
    ) -> Partitioning:
        if request.to == now.count:  # as it was asked, or a leader before us died after the switch
            await self._requests.change(request, state="done", before=now.before, at=now.at)
            return now
        last = await last_sequences(self._js, now)
        found = await consumer_progress(self._js, now, last, range(now.count), self._projections)
        for each in found:
            self._first.setdefault(each.partition, (each.floor, last[each.partition]))
        if not self._near(found, last):
            if time.monotonic() - self._since <= request.patience:
                return now
            if idle := self._idle(found):
                await self._refuse(request, idle)
                return now
        return await self._switch(request, now, token, lost)

    def _near(self, found: list[ConsumerProgress], last: tuple[int, ...]) -> bool:
        """Whether all that was there a moment ago is done: the rest will not take long.

        It would if somebody is not at work, or far behind. The forwarder goes on until that is
        over, or patience: who is always behind may want more partitions for that very reason.
        """
        recent = [each for each in self._ends if self._looked - each[0] < NEAR_SECONDS]
        self._ends = [*recent, (self._looked, last)]
        _, then = self._ends[0]
        return all(each.events is not None and each.floor >= then[each.partition] for each in found)

    def _idle(self, found: list[ConsumerProgress]) -> list[ConsumerProgress]:
        """The partitions that had something to apply all the while, and nobody who did."""
        idle = []
        for each in found:
            floor, end = self._first[each.partition]
            if each.events is None or floor == each.floor < end:
                idle.append(each)
        return idle

    async def _switch(
        self, request: RepartitionRequest, now: Partitioning, token: str, lost: asyncio.Event
    ) -> Partitioning:
        """Stop, drain, commit. From the first message on every other forwarder is rejected."""
        request = await self._requests.change(request, state="draining")
        began = time.monotonic()
        await self._writer.publish([OutgoingMessage(TOKEN_SUBJECT, b"")], token)
        last = await last_sequences(self._js, now)
        left: Iterable[int] = range(now.count)
        while late := [
            each
            for each in await consumer_progress(self._js, now, last, left, self._projections)
            if not each.done
        ]:
            heed_cancellation()
            if lost.is_set():  # whoever leads now carries it out
                return now
            if time.monotonic() - began > request.patience:
                await self._refuse(request, late)
                return now
            left = [each.partition for each in late]
            await asyncio.sleep(_POLL_SECONDS)
        after = now.followed_by(request.to, self._writer.sequence + 1, last)
        await self._writer.publish([after.message()], token)
        seconds = round(time.monotonic() - began, 3)
        log.info(
            "%d -> %d partitions after sequence %d; nothing was forwarded for %.2f s",
            now.count,
            after.count,
            after.at,
            seconds,
        )
        self._tidy_at = time.monotonic() + SETTLED_SECONDS
        with suppress(Overtaken):
            await self._requests.change(
                request, state="done", before=now.count, at=after.at, seconds=seconds
            )
        return after

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
    names: list[str] = (await js.api(f"CONSUMER.NAMES.{STREAM}")).get("consumers") or []
    return names
