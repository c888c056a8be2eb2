"""The event loop of the roles: uvloop where that is installed, else asyncio's own."""

import asyncio
from collections.abc import Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from pipeline.support.cancellation import mend_wait_for

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on that loop."""
    mend_wait_for()
    loop = import_module("uvloop").new_event_loop if find_spec("uvloop") else None
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)
