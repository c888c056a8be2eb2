"""One generation made to follow another, by several processes at once."""

from collections.abc import AsyncIterator

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.search import Elastic, Generations, ProjectionUnavailable
from pipeline.search.alias_swap import AliasSwap
from pipeline.search.catalog import CatalogEntry
from pipeline.support.settings import Settings
from tests.proxy import HttpProxy
from tests.proxy.faults import answer
from tests.proxy.http import Forward, Reply, Request

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def elastic(settings: Settings) -> AsyncIterator[Elastic]:
    elastic = Elastic(settings.elasticsearch_url)
    yield elastic
    await elastic.close()


class Overtaken(Generations):
    """Someone else begins the next generation just after this one looked for the first time."""

    other: AliasSwap | None

    async def _catalog(self) -> list[CatalogEntry]:
        found = await super()._catalog()
        other, self.other = self.other, None
        if other is not None:
            await other.begin()
        return found


async def test_two_that_begin_at_once_build_the_same_generation(elastic: Elastic) -> None:
    generations, overtaken = Generations(elastic, BALANCE), Overtaken(elastic, BALANCE)
    await generations.ensure_live()
    overtaken.other = AliasSwap(elastic, generations)
    begun = await AliasSwap(elastic, overtaken).begin()
    assert begun.number == 2
    assert begun == await AliasSwap(elastic, generations).building()
    assert await generations.bearing("balance-g3") is None, "nothing is left over"


async def test_a_generation_that_is_begun_is_begun_once(elastic: Elastic) -> None:
    generations = Generations(elastic, BALANCE)
    await generations.ensure_live()
    succession = AliasSwap(elastic, generations)
    assert await succession.begin() == await succession.begin()


async def lost_copy(request: Request, forward: Forward) -> Reply:
    """The node of one copy dies while an index is refreshed; the request is a success."""
    if not request.path.endswith("/_refresh"):
        return await forward(request)
    return answer(200, {"_shards": {"total": 2, "successful": 1, "failed": 1}})


async def test_no_swap_to_a_generation_that_is_not_refreshed_everywhere(
    settings: Settings, elastic: Elastic
) -> None:
    """Readers may be sent to the copy that was not, and would see less than before the swap."""
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        through = Elastic(proxy.url)
        generations = Generations(through, BALANCE)
        old = await generations.ensure_live()
        swap = AliasSwap(through, generations)
        new = await swap.begin()
        with proxy.faulty(lost_copy), pytest.raises(ProjectionUnavailable):
            await swap.swap(old, new)
        assert await Generations(elastic, BALANCE).live() == old
        assert await swap.swap(old, new)
        assert await Generations(elastic, BALANCE).live() == new
        await through.close()
