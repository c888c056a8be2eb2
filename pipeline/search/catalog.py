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
        return f"{self.projection.alias}-{self.number}"

    @property
    def alias(self) -> str:
        return f"{self.projection.alias}-g{self.number}"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An index and its aliases, each with its options: a filter, a routing, `is_write_index`."""

    name: str
    uuid: str
    aliases: Mapping[str, Mapping[str, Any]]
    version: int
    projection: Projection
    blocks: frozenset[str] = frozenset()
    """What is forbidden on it, such as `write` or `read_only_allow_delete`."""

    @property
    def generation(self) -> Generation | None:
        """None for an index whose name is not one of ours."""
        name, _, number = self.name.rpartition("-")
        if name != self.projection.alias or re.fullmatch("0|[1-9][0-9]*", number) is None:
            return None
        return Generation(int(number), self.uuid, self.projection, self.version)

    @property
    def read(self) -> bool:
        """Whether readers of the projection see this index."""
        return self.name == self.projection.alias or self.projection.alias in self.aliases


def catalog_of(projection: Projection, answer: Mapping[str, Any]) -> list[CatalogEntry]:
    """The entries of Elasticsearch's answer to `GET` of indexes."""
    return [
        CatalogEntry(
            name,
            about["settings"]["index"]["uuid"],
            about.get("aliases", {}),
            projection_version(about.get("mappings", {})),
            projection,
            _blocks(about["settings"]["index"].get("blocks", {})),
        )
        for name, about in answer.items()
    ]


def newest(indexes: Iterable[CatalogEntry], alias: str) -> Generation | None:
    """The generation with that alias; of several the newest.

    One that is not being built, and was made by a worker, with its own alias and a version, comes
    before any other: a person or a restored snapshot may have given the alias to an index with a
    higher number.
    """
    bearers = [each for each in indexes if alias in each.aliases]
    generations = [(each, found) for each in bearers if (found := each.generation)]
    made = max(generations, key=lambda one: _rank(*one), default=None)
    return made[1] if made else None


def _rank(entry: CatalogEntry, generation: Generation) -> tuple[bool, bool, bool, int]:
    whole = f"{generation.projection.alias}-building" not in entry.aliases
    own = generation.alias in entry.aliases
    return whole, own, generation.version > 0, generation.number


def highest(indexes: Iterable[CatalogEntry]) -> int:
    """The highest number of a generation, 0 if there is none."""
    return max((each.generation.number for each in indexes if each.generation), default=0)


def has(indexes: Iterable[CatalogEntry], generation: Generation | None) -> bool:
    """Whether that very generation, by its uuid, is there."""
    return generation is not None and any(each.generation == generation for each in indexes)


def repairs(indexes: Sequence[CatalogEntry], live: Generation) -> list[dict[str, Any]]:
    """Alias actions that leave the generation as the only live one, and each of our aliases on the
    index that it belongs to, without options."""
    actions: list[dict[str, Any]] = []
    for each in indexes:
        for alias, options in each.aliases.items():
            if not _belongs(alias, each, live):
                actions.append({"remove": {"index": each.name, "alias": alias, "must_exist": True}})
            elif options and _is_ours(alias, live.projection):
                actions.append({"add": {"index": each.name, "alias": alias}})
        if each.name == live.index:
            missing = {live.alias, live.projection.alias} - each.aliases.keys()
            actions += [{"add": {"index": each.name, "alias": one}} for one in sorted(missing)]
    return actions


def _is_ours(alias: str, projection: Projection) -> bool:
    """Whether it is an alias of the projection: `balance`, `balance-g{n}` or `balance-building`."""
    return re.fullmatch(f"{re.escape(projection.alias)}(-building|-g[0-9]+)?", alias) is not None


def _belongs(alias: str, entry: CatalogEntry, live: Generation) -> bool:
    """Whether the index may have the alias. All aliases that are not ours may be anywhere."""
    name, generation = live.projection.alias, entry.generation
    if alias == name:
        return entry.name == live.index
    if alias == f"{name}-building":
        return generation is not None
    return not _is_ours(alias, live.projection) or (
        generation is not None and alias == generation.alias
    )


def faults(indexes: Iterable[CatalogEntry], live: Generation | None, name: str) -> list[str]:
    """In words, what keeps readers from the projection or workers from writing it."""
    if live is None:
        return [f"there is no index with the alias {name}"]
    found: list[str] = []
    for each in indexes:
        for alias, options in each.aliases.items():
            if not _belongs(alias, each, live):
                found.append(f"the alias {alias} is on a second index, {each.name}")
            elif options and _is_ours(alias, live.projection):
                found.append(f"the alias {alias} of {each.name} has options: {sorted(options)}")
        if each.blocks and (each.read or f"{name}-building" in each.aliases):
            found.append(f"{each.name} is blocked: {', '.join(sorted(each.blocks))}")
    return found


def usurpers(indexes: Iterable[CatalogEntry], projection: Projection) -> list[CatalogEntry]:
    """Indexes that have the name of one of our aliases: a write without `require_alias` made them
    when the alias was gone."""
    return [each for each in indexes if _is_ours(each.name, projection)]


def adoption(foreign: Iterable[CatalogEntry], heir: Generation) -> list[dict[str, Any]]:
    """Alias actions that put a generation in the place of indexes that were created by hand."""
    name = heir.projection.alias
    actions: list[dict[str, Any]] = []
    for each in foreign:
        if _is_ours(each.name, heir.projection):
            actions.append({"remove_index": {"index": each.name}})
        elif name in each.aliases:
            actions.append({"remove": {"index": each.name, "alias": name, "must_exist": True}})
    return [*actions, {"add": {"index": heir.index, "alias": name}}]


def projection_version(mappings: Mapping[str, Any]) -> int:
    """The version of the projection for which an index was made; 0 if it names none."""
    found = mappings.get("_meta", {}).get("projection")
    return found if isinstance(found, int) else 0


def _blocks(found: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, value in found.items() if str(value) == "true")
