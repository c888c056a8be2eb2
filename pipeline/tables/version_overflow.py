"""Documents whose `_version` is so high that no era is above: a hand may write any number.

At the very highest one a plain write wraps it round to the lowest, on every Elasticsearch; over
that one everything wins. So they are brought there, with what is in them, and then to the lowest.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.model.projection import ERA
from pipeline.search import ConditionalWrite, Elastic, FoundDocument, Write
from pipeline.tables.versioned_document import VersionedDocument

HIGHEST: Final = 2**63 - 1
LAST: Final = HIGHEST // ERA
"""The era that a document may be written in, but that has none above."""


def stuck(found: Mapping[str, FoundDocument]) -> dict[str, FoundDocument]:
    """The documents that nothing could be written over."""
    return {each: there for each, there in found.items() if there.version // ERA >= LAST}


async def lower(elastic: Elastic, alias: str, found: Mapping[str, FoundDocument]) -> None:
    """Bring stuck documents a step nearer to the lowest `_version`. Raises `GenerationGone`."""
    below = [
        Write(each, HIGHEST, there.source)
        for each, there in found.items()
        if there.version < HIGHEST
    ]
    if below:
        await elastic.bulk(alias, below)
    highest = [
        ConditionalWrite(each, there.stamp, there.source)
        for each, there in found.items()
        if there.version == HIGHEST
    ]
    if highest:
        await elastic.patiently(lambda: elastic.compare_and_set(alias, highest))


async def dig_up(elastic: Elastic, alias: str, refused: Sequence[VersionedDocument]) -> None:
    """Put documents in the place of tombstones that no era is above. Raises `GenerationGone`."""
    writes = [
        ConditionalWrite(state.document["id"], None, state.document)
        for state in refused
        if state.era >= LAST
    ]
    if writes:
        await elastic.patiently(lambda: elastic.compare_and_set(alias, writes))
