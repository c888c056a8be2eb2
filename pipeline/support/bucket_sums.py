"""Compares two long lists in constant memory, by sums of hashes in 4096 buckets.

Every item of one list is added, every item of the other subtracted. A bucket that is not zero in
the end has an item that only one list has (or has more often).
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

BUCKETS: Final = 4096


def fingerprint(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest())


@dataclass(slots=True)
class Sums:
    _sums: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, item: int, sign: int) -> None:
        """Add the fingerprint of an item, or with sign -1 subtract it."""
        self._sums[item % BUCKETS] += sign * item

    def uneven(self) -> frozenset[int]:
        """The buckets that are not zero."""
        return frozenset(bucket for bucket, rest in enumerate(self._sums) if rest)
