"""One generation made to follow another, by several processes at once."""

from collections.abc import AsyncIterator

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.search import Elastic, Generations
from pipeline.search.alias_swap import AliasSwap
from pipeline.search.catalog import CatalogEntry
from pipeline.support.settings import Settings

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
