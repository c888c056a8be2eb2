"""The processes of one role that answer as one, as `bank worker --processes 4` runs them.

Their parent (`pipeline/embedded/process_group.py`) listens at the role's port. Each process has a
`Member` in its environment, accepts from the parent's sockets, and answers the others over a Unix
socket of its own in a folder that nobody else may enter (`group_answers.py`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_VARIABLE: Final = "_BANK_MEMBER"  # no setting: people don't set it, and `load` would refuse it


@dataclass(frozen=True, slots=True)
class Member:
    """One process of `count`, with `number` from 0. `listeners` are descriptors of sockets that
    listen."""

    number: int
    count: int
    listeners: tuple[int, ...]
    folder: Path

    def environment(self) -> dict[str, str]:
        """The variable that tells a process who it is."""
        told = [self.number, self.count, self.listeners, str(self.folder)]
        return {_VARIABLE: json.dumps(told)}

    @classmethod
    def of_this_process(cls) -> Self | None:
        """None for a process that is alone, as most are."""
        told = os.environ.get(_VARIABLE)
        if told is None:
            return None
        number, count, listeners, folder = json.loads(told)
        return cls(number, count, tuple(listeners), Path(folder))

    @property
    def counts(self) -> Path:
        """The file with the number of connections of each process, 4 bytes for each."""
        return self.folder / "connections"

    def make_counts(self) -> None:
        self.counts.write_bytes(bytes(4 * self.count))

    def socket_of(self, number: int) -> Path:
        """Where the process of that number answers the others."""
        return self.folder / str(number)
