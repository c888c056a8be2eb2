"""The indexes of a projection as Elasticsearch lists them, and its generations; pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.projection import Projection


@dataclass(frozen=True, slots=True)
class Generation:
    """One index of a projection. The uuid differs from that of a later index of the same name.

    `version` is that of the fold that it was created for, 0 if it is not known.
    """

    number: int
    uuid: str
    projection: Projection
    version: int = field(default=0, compare=False)

    @property
    def index(self) -> str:
        return f"{self.projection.name}-{self.number}"

    @property
    def alias(self) -> str:
        return f"{self.projection.name}-g{self.number}"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An index and its aliases."""

    name: str
    uuid: str
    aliases: frozenset[str]
    version: int
    projection: Projection

    @property
    def generation(self) -> Generation | None:
        """None for an index whose name is not one of ours."""
        name, _, number = self.name.rpartition("-")
        if name != self.projection.name or re.fullmatch("0|[1-9][0-9]*", number) is None:
            return None
        return Generation(int(number), self.uuid, self.projection, self.version)

    @property
    def read(self) -> bool:
        """Whether readers of the projection see this index."""
        return self.name == self.projection.name or self.projection.name in self.aliases


def catalog_of(projection: Projection, answer: Mapping[str, Any]) -> list[CatalogEntry]:
    """The entries of Elasticsearch's answer to `GET` of indexes."""
    return [
        CatalogEntry(
            name,
            about["settings"]["index"]["uuid"],
            frozenset(about.get("aliases", {})),
            _version(about.get("mappings", {})),
            projection,
        )
        for name, about in answer.items()
    ]


def newest(indexes: Iterable[CatalogEntry], alias: str) -> Generation | None:
    """The newest generation with that alias."""
    generations = [each.generation for each in indexes if alias in each.aliases]
    return max((g for g in generations if g), key=lambda g: g.number, default=None)


def highest(indexes: Iterable[CatalogEntry]) -> int:
    """The highest number of a generation, 0 if there is none."""
    return max((each.generation.number for each in indexes if each.generation), default=0)


def repairs(indexes: Sequence[CatalogEntry], live: Generation) -> list[dict[str, Any]]:
    """Alias actions that leave the generation as the only live one, with its own alias."""
    name = live.projection.name
    actions: list[dict[str, Any]] = []
    for each in indexes:
        if each.name == live.index:
            if live.alias not in each.aliases:
                actions.append({"add": {"index": each.name, "alias": live.alias}})
        elif name in each.aliases:
            actions.append({"remove": {"index": each.name, "alias": name, "must_exist": True}})
    return actions


def adoption(foreign: Iterable[CatalogEntry], heir: Generation) -> list[dict[str, Any]]:
    """Alias actions that put a generation in the place of indexes that were created by hand."""
    name = heir.projection.name
    actions: list[dict[str, Any]] = [
        {"remove_index": {"index": each.name}}
        if each.name == name
        else {"remove": {"index": each.name, "alias": name, "must_exist": True}}
        for each in foreign
    ]
    return [*actions, {"add": {"index": heir.index, "alias": name}}]


def _version(mappings: Mapping[str, Any]) -> int:
    found = mappings.get("_meta", {}).get("projection")
    return found if isinstance(found, int) else 0
