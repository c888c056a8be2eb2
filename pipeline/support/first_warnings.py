"""Warnings of what is wrong with a thing as a whole, and is met again at each use of it."""

import logging
from weakref import WeakSet


class FirstWarnings:
    """Warns of a thing once. What follows is for debugging."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: WeakSet[object] = WeakSet()

    def warn(self, thing: object, text: str, *named: object) -> None:
        """Log the text, with the exception that is being handled."""
        level = logging.DEBUG if thing in self._told else logging.WARNING
        self._told.add(thing)
        self._log.log(level, text, *named, exc_info=True)
