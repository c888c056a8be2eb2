"""A service's lines of the audit log, and the last use of keys. No request waits for them.

Lines wait in memory until NATS has them: `MOST` at most, while more are counted as lost. The
connection is made for the first line, so a service without keys may never make one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.security.limits import TokenBucket
from pipeline.messaging import JetStream
from pipeline.messaging.answers import FAILURES
from pipeline.operations import audit, keys
from pipeline.operations.audit import Action, AuditActor
from pipeline.operations.keys import Key
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

MOST: Final = 1000
REFUSED_A_SECOND: Final = 5.0
"""Lines for refused requests; twice as many at once. The others are counted in the next line."""

_LEAVE_SECONDS: Final = 2.0
_DAY: Final = 24 * 60 * 60


class AuditTrail:
    """The lines of one service. `note` and its like never wait and never raise."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings, self._service = settings, service
        self._waiting: deque[Callable[[JetStream], Awaitable[None]]] = deque()
        self._more, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._refusals = TokenBucket(REFUSED_A_SECOND, 0.0)
        self._omitted = 0
        self._used: dict[str, float] = {}  # days since 1970
        self._ensured = False
        self._written = self._lost = 0

    def note(
        self, action: Action, actor: AuditActor, *, target: str = "", outcome: str = "done"
    ) -> None:
        """Write a line."""
        line = audit.new_line(action, actor, service=self._service, target=target, outcome=outcome)
        self._write(line)

    def refused(self, actor: AuditActor, target: str, outcome: str) -> None:
        """Write a line for a refused request, unless there were too many lately."""
        if self._refusals.spend(asyncio.get_running_loop().time()):
            self._omitted += 1
            return
        line = audit.new_line(
            "key-refused",
            actor,
            service=self._service,
            target=target,
            outcome=outcome,
            omitted=self._omitted,
        )
        self._omitted = 0
        self._write(line)

    def used(self, key: Key) -> None:
        """Note the first use of a key in a day."""
        now = time.time()
        if self._used.get(key.id) == (number := now // _DAY):
            return
        self._used[key.id], day = number, datetime.fromtimestamp(now, UTC).date().isoformat()
        line = audit.new_line("key-used", actor_of(key), service=self._service, target=key.id)

        async def first(js: JetStream) -> None:
            if await keys.use(js, key.id, day):
                await self._store(js, line)

        self._put(first)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write the lines inside the block; at its end wait for them, but not for long."""
        async with running(self._run()):
            try:
                yield
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LEAVE_SECONDS):
                        await self._idle.wait()
                if self._waiting:
                    log.warning("%d lines of the audit log are lost", len(self._waiting))

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("bank_audit_lines", "Lines that the audit log has", self._written)
        yield CounterMetricFamily(
            "bank_audit_lost_lines", "Lines lost because too many waited for NATS", self._lost
        )
        yield GaugeMetricFamily(
            "bank_audit_waiting_lines", "Lines that wait for NATS", len(self._waiting)
        )

    def _write(self, line: audit.AuditLine) -> None:
        self._put(lambda js: self._store(js, line))

    def _put(self, work: Callable[[JetStream], Awaitable[None]]) -> None:
        if len(self._waiting) >= MOST:
            self._lost += 1
            return
        self._waiting.append(work)
        self._idle.clear()
        self._more.set()

    async def _store(self, js: JetStream, line: audit.AuditLine) -> None:
        await audit.write(js, line)
        self._written += 1

    async def _run(self) -> None:
        await self._more.wait()
        outage = Outage(log, "the audit log")
        js = await outage.retry_forever(
            lambda: JetStream.connect(self._settings.nats, "bank audit"), Exception
        )
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._waiting:
                    await outage.retry_forever(lambda: self._next(js), FAILURES)
                self._idle.set()
        finally:
            await js.close()

    async def _next(self, js: JetStream) -> None:
        """Do the work that waits longest; it stays while it fails."""
        try:
            if not self._ensured:
                await audit.ensure(js, self._settings)
                self._ensured = True
            await self._waiting[0](js)
        except FAILURES:
            self._ensured = False  # somebody may have deleted the stream
            raise
        except Exception:
            log.exception("a line of the audit log can't be written")
            self._lost += 1
        self._waiting.popleft()


AUDIT: Final = web.AppKey("audit", AuditTrail)


def actor_of(key: Key | None) -> AuditActor:
    """The actor of a request; None: the service asks for no key."""
    return {"key": key.id, "role": key.role.value} if key else audit.ANONYMOUS


def claimed(request: web.Request) -> AuditActor:
    """The actor of a request whose key was refused: who it says it is, as far as that is a key."""
    token = request.headers.get("Authorization", "").partition(" ")[2]
    named = keys.parted(token.strip())
    return {"key": named[0], "role": "unverified"} if named else {"role": "unverified"}
