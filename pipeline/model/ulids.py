"""Makes ULIDs: 26 characters that sort by time, to the millisecond, and those of one process in the
order in which it made them.

Each command needs two. `python-ulid`, which also reads them, takes three times as long to make one.
"""

import os
import time
from threading import Lock
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
"""Two characters for each ten bits."""
_SHIFTS: Final = tuple(range(100, -1, -10))
"""Of all but the last two pairs, which alone change nearly always within a millisecond."""

_lock: Final = Lock()
_last = 0
_high, _first = -1, ""
"""The bits and the characters that come before the last two pairs."""


def new_ulid() -> str:
    """A new ULID: 48 bits of milliseconds since 1970, and 80 random bits; within a millisecond, one
    more than the last one."""
    global _last, _high, _first
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds == _last >> 80:
            _last += 1
        else:
            _last = milliseconds << 80 | int.from_bytes(os.urandom(10))
        high, low = _last >> 20, _last & 0xFFFFF
        if high != _high:
            _high, _first = high, "".join([_PAIRS[high >> shift & 1023] for shift in _SHIFTS])
        return _first + _PAIRS[low >> 10] + _PAIRS[low & 1023]
