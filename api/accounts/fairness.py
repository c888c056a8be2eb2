"""Turns at a hot account: a replica that never pauses would keep all others out.

Whoever loses a race has to read before they can try again, so they come too late every time. Who
wins therefore stands aside afterwards for as long as a reading and a row take: always while others
are known to write to the account, and now and then to find out. Who pauses that long need not.
"""

import time
from typing import Final

_REMEMBERED: Final = 1000
_KNOWN: Final = 1.0
"""Seconds for which somebody who wrote to the account is taken to go on."""
_READ_AND_WRITE: Final = 2
"""How often as long as a row the others need: they read what it left behind before theirs."""
_LEAST: Final = 0.02
"""Seconds to stand aside at least: the others' next may be a transfer, which takes longer."""
_ASKING: Final = 0.5
"""Seconds without a pause after which there is one, to see whether anybody is there."""


class AccountFairness:
    """One replica's turns at one account; times in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._others_until = self._resume = self._ended = self._busy_since = 0.0

    def pause(self) -> float:
        """How long to stand aside before the next row."""
        return max(0.0, self._resume - time.monotonic())

    def conflicted(self) -> None:
        """Somebody else was first: to be tried again at once."""
        self._others_until = time.monotonic() + _KNOWN

    def stored(self, began: float, *, others: bool) -> None:
        """A row is stored; `others`: it had to read what somebody else wrote."""
        now = time.monotonic()
        took = now - began
        if others:
            self._others_until = now + _KNOWN
        aside = max(_READ_AND_WRITE * took, _LEAST)
        if began - self._ended >= aside:  # the others had their time before it
            self._busy_since = began
        if now < self._others_until or now - self._busy_since > _ASKING:
            self._resume = self._busy_since = now + aside
        self._ended = now


class FairnessByAccount:
    """The turns at the accounts that were used last."""

    def __init__(self) -> None:
        self._fairness: dict[str, AccountFairness] = {}

    def __getitem__(self, account_id: str) -> AccountFairness:
        fairness = self._fairness.pop(account_id, None) or AccountFairness()
        self._fairness[account_id] = fairness
        if len(self._fairness) > _REMEMBERED:
            del self._fairness[next(iter(self._fairness))]
        return fairness
