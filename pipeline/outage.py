"""Trying again while something is down: growing pauses, and one log line for each end of it."""

import asyncio
import logging
import random


class Outage:
    """Says once that `what` is down and once that it is back, however many tries that takes.

    One of these may be shared by concurrent callers; each counts its own attempts.
    """

    def __init__(
        self, log: logging.Logger, what: str, *, first: float = 0.1, most: float = 3.0
    ) -> None:
        self._log, self._what = log, what
        self._first, self._most = first, most
        self._down = False

    async def pause(self, error: BaseException, attempt: int) -> None:
        """Report the failure, and wait as long as attempt number 0, 1, 2, … is worth."""
        if not self._down:
            self._down = True
            self._log.warning("%s: %s; trying until it works", self._what, brief(error))
        longest = min(self._most, self._first * 2 ** min(attempt, 30))
        await asyncio.sleep(longest * random.uniform(0.5, 1))

    def over(self) -> None:
        """It works: say so if it had been down."""
        if self._down:
            self._down = False
            self._log.warning("%s: works again", self._what)


def brief(error: BaseException) -> str:
    """An exception in one line of at most 300 characters."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300].rstrip(": ")
