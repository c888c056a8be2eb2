"""Group commit: requests that wait at the same time are sent to Elasticsearch as one.

A lone request is sent at once. While one is under way others gather, so that few and large requests
are sent under load and small ones otherwise. While small ones follow one another closely, one may
wait some milliseconds for others of the same moment.

The order that must not change is kept by the callers, who wait for an answer before they ask for
what must follow it: the generation being built before the live one, an account's documents in order
of version, documents before the checkpoint that speaks of them. Between requests that wait at the
same time there is no order: versions and stamps decide.
"""

import asyncio
import contextvars
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

Answers = list[dict[str, Any]]

JOINED_ITEMS: Final = 500
JOINED_BYTES: Final = 1024 * 1024
"""What is joined has at most so many; a request that has more by itself is sent alone."""
MUCH: Final = 200
"""So many waiting items are sent beside what is under way: waiting for more saves little."""
AT_ONCE: Final = 4
STEADY_SECONDS: Final = 0.03
"""Requests that follow one another sooner than this are gathered; one after a rest is not."""
SLOW_SECONDS: Final = 1.0
"""A request that takes longer does not hold the next one back: its connection may be dead."""
_LEAST_BYTES: Final = 1024


@dataclass(slots=True, eq=False)
class _Member:
    """A request of `items` items, the future that its caller awaits, and its caller's context."""

    body: bytes
    items: int
    answer: asyncio.Future[Answers]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class GroupCommit:
    """Joins requests of one sort. `send` sends bodies as one request and returns the answers to all
    their items, in order.

    While requests follow one another, one waits `gather` seconds for others, unless there is much
    to send.

    When a joined request fails, each member is sent alone, if it may be sent `again` after that
    error; else each gets the error. So no member can fail or hold up another for long.

    A caller that is cancelled does not end the request of the others: what is under way may be
    carried out after that, as with any request whose connection is closed. What waits is not sent.
    If its partition was released, the next owner is safe from it: a document's version and a
    checkpoint's stamp refuse what comes late.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Awaitable[Answers]],
        *,
        again: Callable[[Exception], bool],
        gather: float = 0.0,
    ) -> None:
        self._send, self._again, self._gather = send, again, gather
        self._most = JOINED_BYTES
        self._waiting: deque[_Member] = deque()
        self._timer: asyncio.Handle | None = None
        self._began = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[asyncio.Task[None], int] = {}  # and not slow, with their items

    async def add(self, body: bytes, items: int = 1) -> Answers:
        """Send the request with others; returns the answers to its own items. Raises what `send`
        raises."""
        member = _Member(body, items, asyncio.get_running_loop().create_future())
        self._waiting.append(member)
        self._wake(self._gather if self._steady() else 0.0)
        return await member.answer

    async def close(self) -> None:
        """Cancel all requests."""
        for member in self._waiting:
            member.answer.cancel()
        for task in list(self._tasks):
            await cancel_and_wait(task)

    def _steady(self) -> bool:
        """Whether requests follow one another, and few items wait."""
        recent = self._began > asyncio.get_running_loop().time() - STEADY_SECONDS
        return recent and sum(each.items for each in self._waiting) < MUCH

    def _wake(self, seconds: float = 0.0) -> None:
        """Look for what to send after so many seconds, or when the loop has run what is ready now,
        which may ask for more."""
        loop = asyncio.get_running_loop()
        if self._timer is None and seconds:
            self._timer = loop.call_later(seconds, self._start)
        elif self._timer is None:
            self._timer = loop.call_soon(self._soon)

    def _soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._timer = None
        self._waiting = deque(each for each in self._waiting if not each.answer.done())
        while self._waiting and self._may_start():
            group = self._next()
            # The spans of a joined request belong to its first caller.
            task = asyncio.create_task(self._serve(group), context=group[0].context)
            self._tasks.add(task)
            self._under_way[task] = sum(each.items for each in group)
            self._began = asyncio.get_running_loop().time()

    def _may_start(self) -> bool:
        if sum(each.items for each in self._waiting) >= MUCH:
            return len(self._under_way) < AT_ONCE
        # A large one that is under way, of a backfill, does not hold the few back.
        return all(items >= MUCH for items in self._under_way.values())

    def _next(self) -> list[_Member]:
        group = [self._waiting.popleft()]
        items, size = group[0].items, len(group[0].body)
        while self._waiting:
            items += self._waiting[0].items
            size += len(self._waiting[0].body)
            if items > JOINED_ITEMS or size > self._most:
                break
            group.append(self._waiting.popleft())
        return group

    async def _serve(self, group: list[_Member]) -> None:
        task = asyncio.current_task()
        assert task is not None
        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._let_pass, task)
        try:
            await self._exchange(group)
        finally:
            slow.cancel()
            self._tasks.discard(task)
            self._let_pass(task)
            for member in group:
                member.answer.cancel()  # does nothing to one that is answered

    def _let_pass(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if self._waiting:
            self._wake()

    async def _exchange(self, group: list[_Member]) -> None:
        """Have every member answered."""
        size = sum(len(each.body) for each in group)
        try:
            answers = await self._send([each.body for each in group])
            if len(answers) != sum(each.items for each in group):
                raise ValueError(f"{len(answers)} answers to {sum(m.items for m in group)} items")
        except Exception as error:
            if len(group) > 1:
                # It may have been too large for a proxy. The limit grows again with each success.
                self._most = max(size // 2, _LEAST_BYTES)
                log.debug("%d joined requests failed: %s", len(group), brief(error))
            if len(group) > 1 and self._again(error):
                waiting = [each for each in group if not each.answer.done()]
                await asyncio.gather(*(self._exchange([each]) for each in waiting))
                return
            for member in group:
                if not member.answer.done():
                    member.answer.set_exception(error)
        else:
            self._most = min(self._most + size // 16, JOINED_BYTES)
            left = iter(answers)
            for member in group:
                own = list(islice(left, member.items))
                if not member.answer.done():
                    member.answer.set_result(own)
