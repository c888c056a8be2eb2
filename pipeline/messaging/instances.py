"""The instances of all roles: each one answers who asks which there are, over plain NATS.

A question is a message to all of them; an instance that ends in good order says so. A message may
be lost, and an instance that stands still or was killed says nothing: who asks remembers who
answered before (`operations/status/instances.py`). Nothing is stored. Each balance service asks
every ten seconds, and every second while somebody looks.
"""

import asyncio
import logging
import math
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Final, NamedTuple

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ulid import ULID

from pipeline.messaging.client import JetStream
from pipeline.messaging.connection import Refusals
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached
from pipeline.support.metrics import SECONDS, Metrics
from pipeline.support.readiness import Checks, Readiness, readiness
from pipeline.support.retry import brief
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 4.0
"""An answer has what the readiness checks found, which are made again after so long."""
_LEAVE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0
_MOST_NAMES: Final = 500
"""An answer has so many counters; the rest is summed up. Who asks takes twice as many."""
_OTHER: Final = "other"

_Short = Annotated[str, Field(max_length=200)]
_Total = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Work(NamedTuple):
    """The counter that says what a role has done, and the label by which it is split."""

    counter: str
    label: str = ""


_WORK: Final = {
    "accounts": _Work("bank_commands_total", "outcome"),
    "balances": _Work("bank_http_requests_total"),
    "forwarder": _Work("bank_forwarder_events_total"),
    "worker": _Work("bank_worker_events_applied_total", "projection"),
}
_DURATIONS: Final = "bank_http_request_seconds_bucket"
_READING: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Answer:
    """What an instance says of itself.

    `id`: of this life of its process. `missing`: what it waits for, with the reasons, as `/readyz`
    says; None while the checks are made for the first time. `done`: totals since its start, of
    commands by outcome, of a worker by projection, else by "". `durations`: how many commands took
    at most as long as each of `SECONDS`, and how many there were.
    """

    id: Annotated[str, Field(max_length=26)]
    role: Annotated[str, Field(pattern="^(accounts|balances|forwarder|worker)$")]
    name: _Short
    missing: Annotated[dict[_Short, str], Field(max_length=100)] | None
    warnings: Annotated[dict[_Short, str], Field(max_length=100)]
    done: Annotated[dict[_Short, _Total], Field(max_length=2 * _MOST_NAMES)]
    durations: Annotated[list[_Total], Field(max_length=len(SECONDS) + 1)]


_CHECKED: Final = TypeAdapter(Answer)


def answer_of(data: bytes) -> Answer | None:
    """The answer in a message; None if it is none."""
    try:
        return _CHECKED.validate_json(data)
    except ValidationError:
        return None


@asynccontextmanager
async def answering(
    settings: Settings, metrics: Metrics, checks: Checks, name: str | None = None
) -> AsyncIterator[None]:
    """Answer in the block, and say goodbye at its end. It waits for no server, and never fails.

    `name`: shown to people; by default host and process id.
    """
    instance = _Instance(settings, metrics, checks, name)
    running = asyncio.create_task(instance.run())
    try:
        yield
    finally:
        await instance.say_goodbye()
        await cancel_and_wait(running)
        await instance.close()


class _Instance:
    def __init__(
        self, settings: Settings, metrics: Metrics, checks: Checks, name: str | None
    ) -> None:
        self._settings, self._metrics, self._checks = settings, metrics, checks
        self._id, self._name = str(ULID()), name or f"{socket.gethostname()}-{os.getpid()}"
        self._js: JetStream | None = None
        self._readiness: Readiness | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_again = 0.0
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
                    await self._js.nc.publish(self._js.names.ended_instances, self._id.encode())
                    await self._js.nc.flush()

    async def close(self) -> None:
        if self._looking is not None:
            await cancel_and_wait(self._looking)
        if self._js is not None:
            await self._js.close()

    async def _connected(self) -> JetStream:
        """The role's own connections log what is wrong with NATS; this one is silent."""
        quiet = Refusals(self._settings.nats, silent=True)
        while True:
            try:
                return await JetStream.connect(
                    self._settings.nats,
                    f"bank instance {self._name}",
                    error_cb=quiet.on_error,
                    disconnected_cb=_nothing,
                    reconnected_cb=_nothing,
                )
            except Exception as error:  # a server that is too old, a file that is gone
                log.debug("NATS: %s", brief(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _answer(self, question: Msg) -> None:
        try:
            self._look()
            found, (done, durations) = self._readiness, work_of(self._metrics)
            answer = {
                "id": self._id,
                "role": self._metrics.role,
                "name": self._name,
                "missing": found and found.missing,
                "warnings": found.warnings if found else {},
                "done": done,
                "durations": durations,
            }
            await question.respond(orjson.dumps(answer))
        except Exception:  # the next question is answered again
            log.debug("a question can't be answered", exc_info=True)

    def _look(self) -> None:
        """Have the checks made, unless that was a moment ago: an answer does not wait for them."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_again and (self._looking is None or self._looking.done()):
            self._looking = detached(self._check())

    async def _check(self) -> None:
        self._readiness = await readiness(self._checks)
        self._look_again = asyncio.get_running_loop().time() + _FRESH_SECONDS


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


def work_of(metrics: Metrics) -> tuple[dict[str, float], list[float]]:
    """`done` and `durations` of a role, from its own metrics."""
    work = _WORK.get(metrics.role, _Work(""))
    done = defaultdict[str, float](float)
    times = dict.fromkeys([*map(float, SECONDS), math.inf], 0.0)
    asked = metrics.registry.restricted_registry([work.counter, _DURATIONS])
    for sample in (each for family in asked.collect() for each in family.samples):
        if sample.name == work.counter:
            done[sample.labels.get(work.label, "")] += sample.value
        elif sample.name == _DURATIONS and sample.labels["method"] not in _READING:
            times[float(sample.labels["le"])] += sample.value
    return _bounded(done), list(times.values()) if metrics.role == "accounts" else []


def _bounded(done: Mapping[str, float]) -> dict[str, float]:
    if len(done) <= _MOST_NAMES:
        return dict(done)
    ordered = sorted(done.items(), key=lambda each: each[1], reverse=True)
    kept, rest = ordered[: _MOST_NAMES - 1], ordered[_MOST_NAMES - 1 :]
    return {**dict(kept), _OTHER: sum(number for _, number in rest)}


async def _nothing() -> None:
    pass
