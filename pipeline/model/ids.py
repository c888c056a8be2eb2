"""New ids: ULIDs as text, as the library `ulid` makes them, at a tenth of its cost.

26 digits in Crockford's base 32: ten for the milliseconds since 1970, sixteen at random. Within a
millisecond a process counts up, so that its ids sort in the order in which they were made.
"""

import os
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [high + low for high in _DIGITS for low in _DIGITS]
_RANDOM: Final = bytes(ord(_DIGITS[byte % 32]) for byte in range(256))
"""Makes a random digit of a random byte."""

_now: tuple[int, str, Iterator[int]] = (-1, "", count())
"""The millisecond of the last id, the first 22 digits of its ids, and the numbers of the last 4."""


def new_id() -> str:
    """A new id; threads may share this."""
    moment = time.time_ns() // 1_000_000
    before, head, numbers = _now
    if moment != before:
        head, numbers = _begin(moment)
    number = next(numbers)
    return f"{head}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"


def _begin(moment: int) -> tuple[str, Iterator[int]]:
    global _now
    random = os.urandom(15)
    at = "".join(_PAIRS[moment >> shift & 1023] for shift in (40, 30, 20, 10, 0))
    # From the lower half on: no millisecond has room for as many ids as there are above it.
    numbers = count(int.from_bytes(random[12:]) % (1 << 19))
    head = at + random[:12].translate(_RANDOM).decode()
    _now = moment, head, numbers
    return head, numbers


def _forget() -> None:
    global _now
    _now = (-1, "", count())


# A child would go on with the numbers of its parent.
os.register_at_fork(after_in_child=_forget)
