"""Questions to the instances of all roles, and their answers, over plain NATS.

A question is a message to all of them; an instance that ends in good order says so. A message may
be lost, and an instance that stands still or was killed says nothing: who asks remembers who
answered before (`operations/status/instances.py`). Nothing is stored. Each balance service asks
every ten seconds, and every second while somebody looks.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pipeline.messaging.client import JetStream
from pipeline.messaging.connection import Refusals
from pipeline.support.cancellation import close_all, running
from pipeline.support.retry import brief
from pipeline.support.self_report import Answer, SelfReport, answer_of
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

_LEAVE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0


@asynccontextmanager
async def answering(settings: Settings, report: SelfReport) -> AsyncIterator[None]:
    """Answer in the block, and say goodbye at its end. It waits for no server, and never fails."""
    speaker = _Speaker(settings, report)
    try:
        async with running(speaker.run()):
            try:
                yield
            finally:
                await speaker.say_goodbye()
    finally:
        await close_all(report.close, speaker.close)


class _Speaker:
    """Answers for a process, on a connection of its own."""

    def __init__(self, settings: Settings, report: SelfReport) -> None:
        self._settings, self._report = settings, report
        self._js: JetStream | None = None
        self._subscribed: Subscription | None = None

    async def run(self) -> None:
        """Answer until cancelled."""
        self._js = js = await self._connected()
        self._subscribed = await js.nc.subscribe(js.names.instances, cb=self._answer)
        await asyncio.Event().wait()

    async def say_goodbye(self) -> None:
        """Tell those who asked before that this instance ends."""
        if self._js is not None and self._js.nc.is_connected:
            with suppress(Exception):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    if self._subscribed is not None:
                        await self._subscribed.unsubscribe()
                    ended = self._js.names.ended_instances
                    await self._js.nc.publish(ended, self._report.id.encode())
                    await self._js.nc.flush()

    async def close(self) -> None:
        if self._js is not None:
            await self._js.close()

    async def _connected(self) -> JetStream:
        """The role's own connections log what is wrong with NATS; this one is silent."""
        quiet = Refusals(self._settings.nats, silent=True)
        while True:
            try:
                return await JetStream.connect(
                    self._settings.nats,
                    f"bank instance {self._report.name}",
                    error_cb=quiet.on_error,
                    disconnected_cb=_nothing,
                    reconnected_cb=_nothing,
                )
            except Exception as error:  # a server that is too old, a file that is gone
                log.debug("NATS: %s", brief(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _answer(self, question: Msg) -> None:
        try:
            await question.respond(orjson.dumps(self._report.answer()))
        except Exception:  # the next question is answered again
            log.debug("a question can't be answered", exc_info=True)


class Questions:
    """Asks all instances, on a connection of the caller. Answers come when they come: `answered` is
    called with each, and `ended` with the id of each instance that says goodbye."""

    def __init__(
        self, js: JetStream, answered: Callable[[Answer], None], ended: Callable[[str], None]
    ) -> None:
        self._js, self._answered, self._ended = js, answered, ended
        self._inbox = js.nc.new_inbox()
        self._refused = False

    async def open(self) -> None:
        """Listen from now on."""
        await self._js.nc.subscribe(self._inbox, cb=self._on_answer)
        await self._js.nc.subscribe(self._js.names.ended_instances, cb=self._on_end)

    async def ask(self) -> None:
        await self._js.nc.publish(self._js.names.instances, reply=self._inbox)

    async def _on_answer(self, message: Msg) -> None:
        if (answer := answer_of(message.data)) is not None:
            self._answered(answer)
        elif not self._refused:
            self._refused = True
            log.warning("what an instance says of itself can't be read: %r", message.data[:200])

    async def _on_end(self, message: Msg) -> None:
        self._ended(message.data.decode(errors="replace"))


async def _nothing() -> None:
    pass
