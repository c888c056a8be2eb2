"""Documents whose `_version` is so high that no era is above it: somebody wrote them by hand.

At the highest `_version` of all, a plain write makes it wrap round to the lowest, on every
Elasticsearch, and any version wins over that one. So such documents are raised to the highest
`_version`, with their fields unchanged, and then written once more.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.model.projection import ERA
from pipeline.search import ConditionalWrite, Elastic, FoundDocument, Write
from pipeline.tables.versioned_document import VersionedDocument

HIGHEST: Final = 2**63 - 1
LAST: Final = HIGHEST // ERA
"""The highest era: a document can be written in it, but not overwritten in a higher one."""


def overflowing(found: Mapping[str, FoundDocument]) -> dict[str, FoundDocument]:
    """The documents that no version would win over."""
    return {each: there for each, there in found.items() if there.version // ERA >= LAST}


async def lower_versions(elastic: Elastic, alias: str, found: Mapping[str, FoundDocument]) -> None:
    """One step of lowering the documents' `_version`. Raises `GenerationGone`."""
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


async def replace_tombstones(
    elastic: Elastic, alias: str, refused: Sequence[VersionedDocument]
) -> None:
    """Create documents where a tombstone may be in the highest era. Raises `GenerationGone`."""
    writes = [
        ConditionalWrite(state.document["id"], None, state.document)
        for state in refused
        if state.era >= LAST
    ]
    if writes:
        await elastic.patiently(lambda: elastic.compare_and_set(alias, writes))
