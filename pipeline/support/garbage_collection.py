"""Runs Python's garbage collector less often: nearly all objects of a role are freed without it."""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 50_000
"""How many more objects a process makes than it frees before it is searched. The usual 700 are
reached by every batch of events, and by a few requests."""


def run_seldom() -> None:
    """To be called by a process that has imported what it needs."""
    gc.freeze()  # what is imported stays: never look through it again
    gc.set_threshold(YOUNG_OBJECTS)
