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
_SHIFTS: Final = tuple(range(120, -1, -10))

_lock: Final = Lock()
_last = 0


def new_ulid() -> str:
    """A new ULID: 48 bits of milliseconds since 1970, and 80 random bits; within a millisecond, one
    more than the last one."""
    global _last
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds == _last >> 80:
            _last += 1
        else:
            _last = milliseconds << 80 | int.from_bytes(os.urandom(10))
        number = _last
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
