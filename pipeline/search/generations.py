"""Generations of a projection: indexes `balance-{n}` with an alias `balance-g{n}` for writers.

The live one also has the alias `balance`, for readers. Other projections have their own name.
"""

import asyncio
import logging
import time
from typing import Any, Final

from elasticsearch import ApiError, BadRequestError, NotFoundError, TransportError

from pipeline.model.projection import Projection
from pipeline.search.catalog import (
    CatalogEntry,
    Generation,
    adoption,
    catalog_of,
    faults,
    has,
    highest,
    newest,
    repairs,
    usurpers,
)
from pipeline.search.client import Elastic
from pipeline.support.retry import Outage, brief

log = logging.getLogger(__name__)

_POLL: Final = 0.25


class Generations:
    """Finds the live generation, and creates one if there is none."""

    def __init__(
        self,
        elastic: Elastic,
        projection: Projection,
        *,
        shards: int = 1,
        replicas: int = 0,
        grace_seconds: float = 5.0,
    ) -> None:
        self.projection, self._name = projection, projection.alias
        self._elastic, self._client = elastic, elastic.client
        self._shards, self._replicas, self._grace = shards, replicas, grace_seconds
        self._last: Generation | None = None
        self._extended: Generation | None = None
        self._missing_since: float | None = None
        self._lock = asyncio.Lock()
        self._outage = Outage(log, f"the generations of {projection.name}")

    async def live(self) -> Generation | None:
        """The generation that readers see now, or None. Raises the driver's errors."""
        return newest(await self._catalog(), self._name)

    async def ensure_live(self) -> Generation:
        """The live generation, created or adopted if there is none; waits while Elasticsearch is
        down.

        An index that this process has seen and that is gone is created again only after the grace,
        so that a person can create one by hand first; that one is adopted.
        """
        async with self._lock:
            attempt = 0
            while True:
                try:
                    generation = await self._step()
                except (ApiError, TransportError) as error:
                    await self._outage.pause(error, attempt)
                    attempt += 1
                    continue
                self._outage.over()
                if generation is not None:
                    self._last, self._missing_since = generation, None
                    return generation
                await asyncio.sleep(_POLL)

    async def bearing(self, alias: str) -> Generation | None:
        """The newest generation that has the alias. Raises the driver's errors."""
        return newest(await self._catalog(), alias)

    async def drop(self, generation: Generation) -> bool:
        """Delete a generation that no reader sees; whether it was deleted. Raises the driver's
        errors.

        By its uuid: an index of the same name created later stays.
        """
        indexes = await self._catalog()
        if not any(each.generation == generation and not each.read for each in indexes):
            return False
        try:
            await self._client.indices.delete(index=generation.index)
        except NotFoundError:
            return False
        log.info("%s is dropped", generation.index)
        return True

    async def create_next(self, alias: str, *, refresh: str) -> None:
        """Create a generation above all others, with that alias, unless one has it.

        One request answers both, so two processes that do it at once create the same index.
        """
        indexes = await self._catalog()
        if newest(indexes, alias) is None:
            await self.create(highest(indexes) + 1, alias, refresh=refresh)

    async def create(self, number: int, *more: str, refresh: str = "1s") -> None:
        """Create generation `number`, empty, unless it exists; `more` aliases besides its own."""
        generation = Generation(number, "", self.projection)
        aliases: dict[str, Any] = {alias: {} for alias in (generation.alias, *more)}
        made = await self._elastic.make_index(
            generation.index,
            aliases,
            self.projection.mapping,
            {
                "number_of_shards": self._shards,
                "number_of_replicas": self._replicas,
                "refresh_interval": refresh,
            },
        )
        if made:
            log.info("made the index %s", generation.index)

    async def mend(self) -> None:
        """Put right what somebody did to the aliases while the workers run; raises the driver's
        errors. An index that is gone is left to `ensure_live`.

        A second index behind an alias loses it. The live generation gets its aliases back.
        """
        indexes = await self._catalog()
        live = newest(indexes, self._name) or (self._last if has(indexes, self._last) else None)
        if live is not None:
            self._last = live
            await self._repair(indexes, live)

    async def faults(self) -> list[str]:
        """In words, what keeps readers from the projection or workers from writing it."""
        indexes = await self._catalog()
        return faults(indexes, newest(indexes, self._name), self._name)

    async def _step(self) -> Generation | None:
        """Read the catalog and take one step towards a live generation; None: call again."""
        indexes = await self._catalog()
        generation = newest(indexes, self._name)
        if generation is None and has(indexes, self._last):  # its alias was removed
            generation = self._last
        foreign = [each for each in indexes if each.generation is None and each.read]
        if foreign and generation is None:
            heir = await self._next(indexes)
            if not await self._adopt(foreign, heir):
                await self._drop_unread(heir.index)
            return None
        if generation is None:
            if not self._in_grace():
                await self.create(highest(indexes) + 1, self._name)
            return None
        if await self._repair(indexes, generation):
            return None
        await self._extend_mapping(generation)
        await self._elastic.awaken(generation.index)
        return generation

    async def _repair(self, indexes: list[CatalogEntry], live: Generation) -> bool:
        """Leave the generation as the only live one; False if it is that already."""
        created = usurpers(indexes, self.projection)
        if created:
            await self._adopt(created, live)
            return True
        actions = repairs(indexes, live)
        if not actions:
            return False
        try:
            await self._client.indices.update_aliases(actions=actions)
        except (BadRequestError, NotFoundError) as error:  # another worker was faster
            log.debug("not repaired: %s", brief(error))
            await asyncio.sleep(_POLL)
        else:
            for fault in faults(indexes, live, self._name) or [f"{live.index} lacked an alias"]:
                log.warning("repaired: %s", fault)
        return True

    async def _extend_mapping(self, generation: Generation) -> None:
        """Raise the limits of a mapping that an older release made; documents that it left out of
        an index are in it after a rebuild."""
        if self._extended == generation or generation.version != self.projection.version:
            return
        try:
            await self._elastic.extend_mapping(generation.index, self.projection.mapping)
        except ApiError as error:  # it was changed by hand, or is blocked
            log.warning("the mapping of %s stays as it is: %s", generation.index, brief(error))
        self._extended = generation

    def _in_grace(self) -> bool:
        if self._last is None:
            return False
        if self._missing_since is None:
            self._missing_since = time.monotonic()
            log.warning(
                "the index of %s is gone; it is created again in %g s", self._name, self._grace
            )
        return time.monotonic() - self._missing_since < self._grace

    async def _next(self, indexes: list[CatalogEntry]) -> Generation:
        number = highest(indexes) + 1
        await self.create(number)
        return Generation(number, "", self.projection)

    async def _drop_unread(self, index: str) -> None:
        """Drop what was made in vain: another worker adopted the same indexes into its own."""
        for each in await self._catalog():
            if each.name == index and each.generation is not None:
                await self.drop(each.generation)

    async def _adopt(self, foreign: list[CatalogEntry], generation: Generation) -> bool:
        """Put the generation in the place of indexes that were created by hand; False if another
        worker was faster."""
        actions = adoption(foreign, generation)
        try:
            await self._client.indices.update_aliases(actions=actions)
        except (BadRequestError, NotFoundError) as error:  # another worker was faster
            log.debug("not adopted: %s", brief(error))
            await asyncio.sleep(_POLL)
            return False
        names = ", ".join(each.name for each in foreign)
        log.warning("%s was created by hand: %s replaces it", names, generation.index)
        return True

    async def _catalog(self) -> list[CatalogEntry]:
        found = await self._elastic.indexes(f"{self._name},{self._name}-*")
        return catalog_of(self.projection, found)
