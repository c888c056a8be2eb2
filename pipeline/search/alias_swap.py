"""One generation replaces another: created beside the live one, swapped in one call, dropped.

The generation being built has the alias `balance-building` (of its projection's alias). Both the
swap and giving up remove it with `must_exist`, so Elasticsearch itself decides which comes first.
"""

import logging
from typing import Any, Final

from elasticsearch import ApiError, BadRequestError, NotFoundError

from pipeline.search.catalog import Generation
from pipeline.search.client import Elastic, refresh
from pipeline.search.generations import Generations
from pipeline.search.values import GenerationGone

log = logging.getLogger(__name__)

NEVER: Final = "-1"
LIVE_REFRESH: Final = "1s"


class AliasSwap:
    """The steps of a rebuild that change indexes. Each may be repeated, by any process.

    Raises `GenerationGone`, `ProjectionUnavailable` and the driver's errors.
    """

    def __init__(self, elastic: Elastic, generations: Generations) -> None:
        self._elastic, self._client, self._generations = elastic, elastic.client, generations
        self._live = generations.projection.alias
        self._building = f"{self._live}-building"

    async def begin(self) -> Generation:
        """Create the next generation, which no reader sees yet, or find the one being built."""
        await self._generations.create_next(self._building, refresh=NEVER)
        building = await self.building()
        if building is None:
            raise GenerationGone("the generation to build was deleted as soon as it was created")
        return building

    async def building(self) -> Generation | None:
        """The generation that is being built."""
        return await self._generations.bearing(self._building)

    async def swap(self, old: Generation | None, new: Generation) -> bool:
        """Let readers see the new one from now on; False if it is not being built any more.

        The order must not change. The old one's refresh is frozen first; the new one is refreshed
        after that and shows at least as much, so no reader sees a version go back.
        """
        actions: list[dict[str, Any]] = [
            _removal(new, self._building),
            {"add": {"index": new.index, "alias": self._live}},
        ]
        if old is not None:
            await self._refresh_every(old, NEVER)
            actions.insert(0, _removal(old, self._live))
        await refresh(self._client, new.index)
        await self._refresh_every(new, LIVE_REFRESH)
        await self._elastic.awaken(new.index)
        try:
            # One call is atomic. Without `must_exist` in each removal Elasticsearch would answer
            # 200 to half of it.
            await self._client.indices.update_aliases(actions=actions)
        except (BadRequestError, NotFoundError) as error:
            log.warning("no swap to %s: %s", new.index, error)
            return False
        log.info("%s is live, in the place of %s", new.index, old.index if old else "nothing")
        return True

    async def give_up(self, new: Generation) -> bool:
        """Delete the generation being built; False if readers see it already, or it is gone."""
        try:
            await self._client.indices.update_aliases(actions=[_removal(new, self._building)])
        except (BadRequestError, NotFoundError):
            return False
        live = await self._generations.live()
        if live is not None:
            await self._refresh_every(live, LIVE_REFRESH)  # in case a swap had been begun
        return await self._generations.drop(new)

    async def _refresh_every(self, generation: Generation, interval: str) -> None:
        try:
            await self._client.indices.put_settings(
                index=generation.index, settings={"refresh_interval": interval}
            )
        except ApiError as error:
            if error.status_code != 404:
                raise


def _removal(generation: Generation, alias: str) -> dict[str, Any]:
    return {"remove": {"index": generation.index, "alias": alias, "must_exist": True}}
