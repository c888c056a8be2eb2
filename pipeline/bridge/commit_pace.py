"""Which intervals of the commit timer end with a commit."""

from typing import Final

STEADY: Final = 3
"""While deliveries keep coming, each third interval does: a commit, with checkpoints before it and
acks after it, costs the same for many deliveries as for one."""


class CommitPace:
    """Asked at the end of each interval."""

    def __init__(self) -> None:
        self._since = STEADY

    def due(self, delivered: bool) -> bool:
        """Whether to commit now. `delivered`: whether deliveries came in this interval.

        The first interval after a rest has a commit, and so has the first one without deliveries.
        """
        self._since += 1
        if delivered and self._since < STEADY:
            return False
        self._since = 0 if delivered else STEADY
        return True

    def rest(self) -> None:
        """The timer stops: nothing is out."""
        self._since = STEADY
