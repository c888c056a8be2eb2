"""The client for those who only read: each request once to each node, no retry."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from elasticsearch import ApiError, NotFoundError, TransportError

from pipeline.model.projection import Projection
from pipeline.search.catalog import Generation
from pipeline.search.client import Elastic
from pipeline.search.generations import Generations
from pipeline.search.values import GenerationGone, ProjectionUnavailable
from pipeline.support.retry import brief

T = TypeVar("T")


class FailFastElastic(Elastic):
    """Raises `ProjectionUnavailable` where `Elastic` retries."""

    _only_reads = True

    async def patiently(self, call: Callable[[], Awaitable[T]], *, most: int | None = None) -> T:
        try:
            return await call()
        except NotFoundError as error:
            raise GenerationGone(brief(error)) from error
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error

    async def _answers(self, alias: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        return await self.patiently(lambda: self._mget(alias, ids))

    async def live(self, projection: Projection) -> Generation | None:
        """The generation that readers see now, or None."""
        return await self.patiently(Generations(self, projection).live)
