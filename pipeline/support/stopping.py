"""A role ends within its grace, whatever hangs."""

import logging
import os
import threading
import time
from typing import Final

log = logging.getLogger(__name__)

ROLE_GRACE: Final = 14.0
"""Seconds after a signal in which a role has ended. `bank up` kills a second later."""
_THREADS_SECONDS: Final = 1.0


def leave_within(seconds: float, exit_code: int = 0) -> None:
    """End this process unless it has ended in so many seconds.

    A thread of a driver may wait for a server that stands still, Python waits for such threads at
    its end, and a driver that closes may block the event loop: so another thread watches. What is
    cut off by that is what a kill cuts off.
    """
    arguments = (seconds, exit_code)
    threading.Thread(target=_leave, args=arguments, name="grace", daemon=True).start()


def leave_threads(exit_code: int = 0) -> None:
    """The same, when all is done but for threads that hang."""
    leave_within(_THREADS_SECONDS, exit_code)


def _leave(seconds: float, exit_code: int) -> None:
    time.sleep(seconds)
    log.warning("leaving: something still hangs %g s later", seconds)
    os._exit(exit_code)
