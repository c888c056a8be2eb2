"""A consumer's place in the feed, as a text that clients keep and pass back.

    {incarnation}.{sequence}.{stamp}                            in the log
    {incarnation}.{sequence}.{stamp}.{slot}.{account}.{version} in the store, then on in the log

`incarnation` tells streams of the same name apart. `stamp` is of the message at that sequence: a
server that lost its last messages numbers others like them.
"""

import re
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final, Self

from pipeline.eventstore import Place
from pipeline.model.events import AGGREGATE_ID, SLOTS

LONGEST: Final = 200
"""Characters of a position."""
UNKNOWN: Final = "0"
"""In the place of an incarnation or a stamp that there is none of."""

_MARK: Final = "[0-9a-f]{12}|0"
_NUMBER: Final = "[0-9]{1,18}"
_STORE: Final = rf"(?:\.([0-9]{{1,4}})\.({AGGREGATE_ID}|)\.({_NUMBER}))?"
_POSITION: Final = re.compile(rf"({_MARK})\.({_NUMBER})\.({_MARK}){_STORE}")


class InvalidPosition(ValueError):
    """The text is no position; the message is for people."""


def mark(of: str | None) -> str:
    """Twelve digits that stand for a text of the server's, such as a time of creation."""
    return blake2s(of.encode(), digest_size=6).hexdigest() if of else UNKNOWN


@dataclass(frozen=True, slots=True)
class Position:
    """After the message `sequence` of that stream. While `place` is there, all events of the store
    after it come first."""

    incarnation: str
    sequence: int
    stamp: str = UNKNOWN
    place: Place | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `InvalidPosition`."""
        found = _POSITION.fullmatch(text)
        if found is None:
            raise InvalidPosition("Not a position of this feed")
        incarnation, sequence, stamp, slot, account_id, version = found.groups()
        if slot is None:
            return cls(incarnation, int(sequence), stamp)
        if int(slot) >= SLOTS:
            raise InvalidPosition("Not a position of this feed")
        return cls(incarnation, int(sequence), stamp, Place(int(slot), account_id, int(version)))

    def __str__(self) -> str:
        log = f"{self.incarnation}.{self.sequence}.{self.stamp}"
        if self.place is None:
            return log
        return f"{log}.{self.place.slot}.{self.place.account_id}.{self.place.version}"
