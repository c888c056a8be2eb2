"""What work costs, beside other work in the same process: a slow machine is slow at both."""

import time
from collections.abc import Awaitable, Callable

Work = Callable[[], Awaitable[object]]


async def effort(work: Work, beside: Work, tries: int = 10) -> float:
    """How many times the processor time of `beside` a run of `work` takes.

    The least of some runs of each, in turns: what else the process does, such as a collection of
    garbage, makes a run longer and never shorter.
    """
    costs: dict[Work, float] = {}
    for _ in range(tries):
        for each in (work, beside):
            began = time.process_time()
            await each()
            took = time.process_time() - began
            costs[each] = min(took, costs.get(each, took))
    return costs[work] / costs[beside]
