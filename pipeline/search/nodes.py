"""The nodes of a cluster of Elasticsearch: which one a request goes to, and when it leaves one."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, Final

from elastic_transport import (
    AiohttpHttpNode,
    AsyncTransport,
    BaseNode,
    ConnectionTimeout,
    NodeConfig,
    NodePool,
    TransportApiResponse,
    TransportError,
)

from pipeline.support.cancellation import cancel_and_wait

log = logging.getLogger(__name__)

UNFIT: Final = (502, 503, 504)
"""A node without a master, or a proxy without a node."""
PROBE_SECONDS: Final = 1.0
"""A request without an answer for so long makes us ask whether its node hangs."""
HANGING_SECONDS: Final = 2.0
"""A node that does not answer even that for so long hangs."""


class Node(AiohttpHttpNode):
    """Keeps no connection to a server that is unfit, and resolves the name anew.

    Such a server answers with an error each time and keeps the connection, although the name may
    lead to another one by now. After an answer of that kind each request closes its connection,
    until one is answered otherwise.
    """

    _doubted = False

    async def perform_request(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if self._doubted:
            options["headers"] = {**(options.get("headers") or {}), "connection": "close"}
        answer = await super().perform_request(*args, **options)
        self._doubted = answer.meta.status in UNFIT
        return answer


class WatchedNode(Node):
    """Raises `ConnectionTimeout` soon when the node hangs: the caller may ask another one.

    A request that takes long may be a large one, or wait for the copy of a shard on another node;
    only a node that does not answer a small question meanwhile hangs.
    """

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        # A connection of its own: requests may have taken all of the others.
        self._probing_node = AiohttpHttpNode(config)
        self._waiting: set[asyncio.Timeout] = set()
        self._probing: asyncio.Task[None] | None = None

    async def perform_request(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        timer = asyncio.get_running_loop().call_later(PROBE_SECONDS, self._begin_probing)
        try:
            async with asyncio.timeout(None) as patience:
                self._waiting.add(patience)
                return await super().perform_request(*args, **options)
        except TimeoutError:
            raise ConnectionTimeout(f"{self.base_url} hangs") from None
        finally:
            timer.cancel()
            self._waiting.discard(patience)

    async def close(self) -> None:  # type: ignore[override]
        if self._probing is not None:
            await cancel_and_wait(self._probing)
        await self._probing_node.close()
        await super().close()

    def _begin_probing(self) -> None:
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Ask the node now and then, as long as requests wait; give them up when it hangs."""
        while waiting := set(self._waiting):
            if not await self._answers():
                for patience in waiting & self._waiting:
                    patience.reschedule(asyncio.get_running_loop().time())
                self._waiting -= waiting
                return
            await asyncio.sleep(PROBE_SECONDS)

    async def _answers(self) -> bool:
        """Whether it answers anything; a refusal, or a connection that is broken, will do."""
        try:
            async with asyncio.timeout(HANGING_SECONDS):
                with suppress(TransportError):
                    await self._probing_node.perform_request("HEAD", "/")
        except TimeoutError:
            return False
        return True


class BoundedTransport(AsyncTransport):
    """Gives a request up after `seconds`, however many nodes are left that it could go to."""

    def __init__(self, seconds: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds = seconds

    async def perform_request(self, *args: Any, **options: Any) -> TransportApiResponse:  # type: ignore[override]
        try:
            async with asyncio.timeout(self._seconds):
                return await super().perform_request(*args, **options)
        except TimeoutError:
            raise ConnectionTimeout(f"no node answered within {self._seconds:g} s") from None


class Nodes(NodePool):
    """Takes the nodes in turns and leaves out those that failed.

    After a rest, which grows with each failure, one request alone tries such a node; the driver's
    pool would send it a share of all requests until the first one failed. When all have failed,
    requests try all in turns.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._resting: dict[NodeConfig, float] = {}
        """Until when, by the monotonic clock."""
        self._tried: set[NodeConfig] = set()

    def get(self) -> BaseNode:
        now = time.monotonic()
        well = [node for each, node in self._all_nodes.items() if each not in self._resting]
        rested = next((each for each, until in self._resting.items() if until <= now), None)
        if not well or rested is None:
            return self._node_selector.select(well or list(self._all_nodes.values()))
        self._tried.add(rested)
        self._rest(rested)  # nobody else tries it meanwhile
        return self._all_nodes[rested]

    def mark_dead(self, node: BaseNode, _now: float | None = None) -> None:
        """Leave the node out. What was under way when it failed counts as one failure."""
        if node.config in self._resting and node.config not in self._tried:
            return
        self._tried.discard(node.config)
        self._dead_consecutive_failures[node.config] += 1
        if node.config not in self._resting:
            log.warning("%s failed: other nodes are asked", node.base_url)
        self._rest(node.config)

    def mark_live(self, node: BaseNode) -> None:
        if self._resting.pop(node.config, None) is not None:
            log.warning("%s answers again", node.base_url)
            self._tried.discard(node.config)
            del self._dead_consecutive_failures[node.config]

    def _rest(self, config: NodeConfig) -> None:
        doubled = min(self._dead_consecutive_failures[config] - 1, 30)
        longest = self._dead_node_backoff_factor * 2**doubled
        self._resting[config] = time.monotonic() + min(longest, self._max_dead_node_backoff)
