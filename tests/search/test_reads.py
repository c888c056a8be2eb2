"""Each read of documents asks the same copy of a shard, and no search goes without a shard."""

from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.search import DocumentReader, Elastic, FailFastElastic, Generations
from pipeline.search.scan import IndexScan
from pipeline.search.values import PREFERENCE
from pipeline.support.settings import Settings
from tests.proxy import Forward, HttpProxy, Reply, Request
from tests.services import NOBODY

pytestmark = pytest.mark.elasticsearch

SORT = [{"id": "asc"}]


class Reads:
    """The reads of documents that pass: the operation, its options, and its body."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, list[str]], bytes]] = []

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        url = urlsplit(request.target)
        *_, name = url.path.split("/")
        single = request.method == "GET" and "/_doc/" in url.path
        # A search of a point in time goes to the copies that were chosen at its begin.
        in_time = name == "_search" and url.path == "/_search"
        if single or (name in ("_search", "_mget", "_pit", "_count") and request.method == "POST"):
            what = "_doc" if single else "in time" if in_time else name
            self.found.append((what, parse_qs(url.query), request.body))
        return await forward(request)


async def test_all_say_so(settings: Settings) -> None:
    async with HttpProxy(settings.elasticsearch_url) as proxy:
        elastic, failing = Elastic(proxy.url), FailFastElastic(proxy.url)
        documents, scan = DocumentReader(proxy.url, BALANCE), IndexScan(proxy.url, BALANCE.alias)
        live = await Generations(elastic, BALANCE).ensure_live()
        await elastic.bulk(live.alias, [])
        reads = Reads()
        proxy.faults.append(reads)
        await documents.get(NOBODY)
        await documents.many([NOBODY])
        await documents.search([], sort=SORT, after=None, limit=1)
        await documents.sort_values(NOBODY, SORT)
        await documents.ping()
        await scan.ping()
        await scan.found([NOBODY])
        await elastic.awaken(live.index)
        async for _ in scan.ids():
            pass
        for each in (elastic, failing):
            await each.mget(live.alias, [NOBODY])
            await each.require_readable(live.alias)
        for reader in (elastic, failing, documents, scan):
            await reader.close()
    whats = {what for what, _, _ in reads.found}
    assert whats == {"_doc", "_mget", "_search", "_pit", "in time"}
    for what, options, body in reads.found:
        if what != "in time":
            assert options["preference"] == [PREFERENCE], what
        if what in ("_search", "in time") and b'"size":0' not in body:
            assert options["allow_partial_search_results"] == ["false"], what
