"""Retries while something is down: growing pauses, one log line at its begin and one at its end."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, TypeVar

from pipeline.support.auth_errors import NAMES, refusal, server_of
from pipeline.support.server_answers import answered, public, silence

T = TypeVar("T")

WELL_SECONDS: Final = 3.0
"""What has worked for that long works again; one that fails every third time does not."""
TROUBLE_SECONDS: Final = 2.0
"""What fails for longer is told by readiness, too."""
PATIENCE: Final = 10.0
"""Seconds without an answer, after which it is logged as down."""
_AGAIN: Final = 30.0
"""Seconds after which a cause is logged again."""
_CHANGED: Final = 5.0
"""Seconds after which another cause is logged."""
_VARIES: Final = re.compile(r"\d")
"""A word with a digit may differ each time: an id, an address, a time."""


class Outage:
    """Logs that `what` is down, the cause now and then, and that it works again.

    However many attempts are made: each cause is logged every 30 seconds, one that is new after 5.
    Concurrent callers may share one; each counts its own attempts.
    """

    def __init__(
        self, log: logging.Logger, what: str, *, first: float = 0.1, most: float = 3.0
    ) -> None:
        self._log, self._what = log, what
        self._first, self._most = first, most
        self._down, self._why = False, ""
        self._since = self._logged = 0.0
        self._logged_at: dict[str, float] = {}  # when causes of each kind were logged last
        self._hanging: set[Callable[[], None]] = set()
        self._recovery: asyncio.TimerHandle | None = None

    @property
    def reason(self) -> str | None:
        """Why it does not work, as `told`, once it has not for `TROUBLE_SECONDS`; else None."""
        lasting = self._down and time.monotonic() - self._since > TROUBLE_SECONDS
        return self._why if lasting else None

    async def pause(self, error: BaseException, attempt: int) -> None:
        """Note the failure, and sleep, longer with each attempt (0, 1, 2, …)."""
        self._failed(brief(error), _kind(error), told(error))
        longest = min(self._most, self._first * 2 ** min(attempt, 30))
        # At random: those who lost a server together must not come back together.
        await asyncio.sleep(longest * random.uniform(0.5, 1))

    def over(self) -> None:
        """It works. If it was down, log that, unless it fails again soon or a call still hangs."""
        if self._down and self._recovery is None and not self._hanging:
            self._recovery = asyncio.get_running_loop().call_later(WELL_SECONDS, self._recovered)

    async def retry_forever(
        self,
        call: Callable[[], Awaitable[T]],
        failures: type[Exception] | tuple[type[Exception], ...] = Exception,
        *,
        unless: tuple[type[Exception], ...] = (),
    ) -> T:
        """Repeat the call until it works, and return what it returns.

        Only `failures` are repeated, and none that is one of `unless`: that one is raised.
        """
        attempt = 0
        while True:
            try:
                result = await call()
            except unless:
                raise
            except failures as error:
                await self.pause(error, attempt)
                attempt += 1
            else:
                self.over()
                return result

    async def every(
        self,
        seconds: float,
        call: Callable[[], Awaitable[object]],
        failures: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> NoReturn:
        """Repeat the call until cancelled: `seconds` after a success, a pause after a failure."""
        while True:
            await self.retry_forever(call, failures)
            await asyncio.sleep(seconds)

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Around one attempt: no answer for PATIENCE counts as being down, too."""

        def notice() -> None:
            self._hanging.add(notice)
            why = f"no answer for {PATIENCE:.0f} s"
            self._failed(why, "no answer", why)

        timer = asyncio.get_running_loop().call_later(PATIENCE, notice)
        try:
            yield
        finally:
            timer.cancel()
            self._hanging.discard(notice)

    def _failed(self, reason: str, kind: str, why: str) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        now, self._why = time.monotonic(), why
        self._logged_at = {each: at for each, at in self._logged_at.items() if now - at < _AGAIN}
        if not self._down:
            self._down, self._since = True, now
            self._logged_at.clear()
            self._log.warning("%s: %s; trying until it works", self._what, reason)
        elif kind not in self._logged_at and now - self._logged >= _CHANGED:
            self._log.warning("%s: still down, %s", self._what, reason)
        else:
            return
        self._logged = self._logged_at[kind] = now

    def _recovered(self) -> None:
        self._down, self._recovery = False, None
        self._log.warning("%s: works again", self._what)


def _kind(error: BaseException) -> str:
    """What befell a server, whatever varies in the text. With the error's cause: one class may
    stand for all that there is."""
    code = getattr(error, "code", "") or getattr(error, "status_code", "")
    words = " ".join(each for each in str(error).split() if not _VARIES.search(each))
    kind = f"{type(error).__name__} {code} {words}"
    return f"{kind} of {_kind(error.__cause__)}" if error.__cause__ else kind


def brief(error: BaseException) -> str:
    """An exception in one line of at most 300 characters; a refusal of our credentials first."""
    text = f"{type(error).__name__}: {error}"
    why = refusal(error)
    if why and why not in text:
        text = f"{why} ({text})"
    return text.replace("\n", " ")[:300].rstrip(": ")


def told(error: BaseException) -> str:
    """An exception as readiness tells it: a driver's text on silence stays in the log, and so does
    what an answer of MongoDB or Redis says of what is stored."""
    server = server_of(error)
    if (why := refusal(error)) is not None:
        return why
    if server is not None and answered(error) is None:
        return silence(NAMES[server])
    if server in ("mongodb", "redis"):
        return f"{NAMES[server]} {public(error)}"
    return brief(error)
