"""Rate limits: a token bucket for each key, in this process, by the monotonic clock."""

import time
from typing import Final

BURST: Final = 2.0
"""A bucket holds the tokens of so many seconds: after a pause, so many requests may come at
once."""


class TokenBucket:
    """Full at first; `rate` tokens a second flow in, and each request takes one."""

    __slots__ = ("_at", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._at = rate, now
        self._tokens = self._most = max(1.0, BURST * rate)

    def spend(self, now: float) -> float:
        """Take a token and return 0; or, if there is none, the seconds until there will be."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Limits:
    """The buckets of all keys in use. There are few keys, so no bucket is ever dropped."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def spend(self, who: str, rate: float) -> float:
        """As `TokenBucket.spend`. A rate of 0 means no limit."""
        if not rate:
            return 0.0
        now = time.monotonic()
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = TokenBucket(rate, now)
        return bucket.spend(now)
