"""What goes into Elasticsearch and comes back, and the two ways in which it does not."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class GenerationGone(Exception):
    """The index behind the alias that was named is no more."""


class ProjectionUnavailable(Exception):
    """Elasticsearch can't be reached, refuses, or has no such index; trying again may help."""


class Write(NamedTuple):
    """A whole document; it wins over any of a lower `_version` (`version_type=external`)."""

    id: str
    version: int
    document: Mapping[str, Any]


class Stamp(NamedTuple):
    """Tells one write of a document from every other one."""

    seq_no: int
    primary_term: int


class ConditionalWrite(NamedTuple):
    """A document written only onto the write that `stamp` names, or, if None, onto none."""

    id: str
    stamp: Stamp | None
    document: Mapping[str, Any]


class FoundDocument(NamedTuple):
    """A document as stored, with its `_version`."""

    version: int
    stamp: Stamp
    source: dict[str, Any]


class WriteOutcome(NamedTuple):
    """What a bulk could not write: indexes of version conflicts, and reasons by index."""

    conflicts: list[int]
    rejected: dict[int, str]
