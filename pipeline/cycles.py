"""The search for cycles among objects, which Python begins again and again: made seldom.

Nearly all that a process of the bank makes is freed without it.
"""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 50_000
"""How many more objects a process makes than it frees before it is searched. The usual 700 are
reached by every batch of events, and by a few requests."""


def seldom() -> None:
    """To be called by a process that has imported what it needs."""
    gc.freeze()  # what is imported stays: never look through it again
    gc.set_threshold(YOUNG_OBJECTS)
