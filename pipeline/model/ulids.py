"""Makes ULIDs: 26 characters that sort by time, to the millisecond, and are random otherwise.

Each command needs two. `python-ulid`, which also reads them, takes three times as long to make one.
"""

import os
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
"""Two characters for each ten bits."""
_SHIFTS: Final = tuple(range(120, -1, -10))


def new_ulid() -> str:
    """A new ULID: 48 bits of milliseconds since 1970, and 80 bits that nobody can guess."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
