"""Documents as they are written to and read from Elasticsearch, and the errors."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

NOBODY: Final = "-"
"""An id that no document has."""
NOTHING: Final[Mapping[str, Any]] = {}
"""A document without fields, which every mapping takes."""
PREFERENCE: Final = "bank"
"""Sends each read of a shard to the same copy, from any process, while no copy comes or goes.

Copies refresh at moments of their own, and have a write one after the other: reads of several
copies in turns go back in time.
"""


class GenerationGone(Exception):
    """The index behind the named alias does not exist any more."""


class ProjectionUnavailable(Exception):
    """Elasticsearch does not answer, refuses, or has no such index; a retry may help."""


class ProjectionBroken(ProjectionUnavailable):
    """Elasticsearch answers, and says what is wrong with the projection's index or alias."""


class ProjectionMissing(ProjectionBroken):
    """Elasticsearch answers that there is no such index or alias."""


class Write(NamedTuple):
    """A whole document, written over any of a lower `_version` (`version_type=external`)."""

    id: str
    version: int
    document: Mapping[str, Any]


class Stamp(NamedTuple):
    """Identifies one write of a document."""

    seq_no: int
    primary_term: int


class ConditionalWrite(NamedTuple):
    """A document written only if its last write is `stamp`; None: if there is no document."""

    id: str
    stamp: Stamp | None
    document: Mapping[str, Any]


class FoundDocument(NamedTuple):
    """A document as stored, with its `_version`."""

    version: int
    stamp: Stamp
    source: dict[str, Any]


class WriteOutcome(NamedTuple):
    """Items of a bulk that were not written: positions of version conflicts, and of rejected
    documents with the reason. Positions are those in the list of writes."""

    conflicts: list[int]
    rejected: dict[int, str]
