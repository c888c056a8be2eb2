"""Finds the projections that a setting names: the application's own, entry points, or
`package.module:NAME`.

The engine knows no projection by itself. A package that has some for an application declares each
as an entry point of the group `{application}.projections`, as this one does for the bank in
`pyproject.toml`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from pipeline.model.names import BANK, Names, is_name
from pipeline.model.projection import Projection


class UnknownProjection(ValueError):
    """A setting names a projection that can't be found; the message is for people."""


def projections(
    listed: str, own: Sequence[Projection] = (), names: Names = BANK
) -> tuple[Projection, ...]:
    """Those of a setting, as an application keeps them: `balance statement package.module:NAME`.

    `own`: the application's; its first one comes first, if it is listed. None at all where there is
    none to list. Raises `UnknownProjection`.
    """
    among = _declared(names.application) | {each.name: each for each in own}
    wanted = [each for each in re.split(r"[\s,]+", listed.strip()) if each]
    found = tuple(_found(each, among).within(names) for each in wanted)
    if among and not found:
        raise UnknownProjection(f"name one projection at least, such as `{next(iter(among))}`")
    for each in found:
        if not is_name(each.name):
            raise UnknownProjection(f"{each.name!r} is no name: lower case letters, digits and _")
        if each.alias == names.checkpoints:
            raise UnknownProjection(f"{each.name!r} can't be a projection: its index is taken")
    if len({each.name for each in found}) < len(found):
        raise UnknownProjection(f"{listed!r} has two of one name")
    first = own[0].name if own else ""
    return tuple(sorted(found, key=lambda each: each.name != first))


def chosen(name: str, among: Iterable[Projection]) -> Projection:
    """The one of that name. Raises `UnknownProjection`."""
    known = {each.name: each for each in among}
    if name not in known:
        raise UnknownProjection(f"There is no projection {name}, only {', '.join(known)}.")
    return known[name]


def _found(name: str, among: Mapping[str, Projection | str]) -> Projection:
    place = name if ":" in name else among.get(name)
    if isinstance(place, Projection):
        return place
    if place is None:
        raise UnknownProjection(
            f"{name!r} is neither {' nor '.join(among)}; name your own as package.module:NAME"
        )
    module, _, attribute = place.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownProjection(f"{name}: {error}") from error
    if not isinstance(found, Projection):
        raise UnknownProjection(f"{name} is no Projection")
    return found


@cache
def _declared(application: str) -> dict[str, Projection | str]:
    """Entry points by name, read once, because that searches every installed package."""
    return {each.name: each.value for each in entry_points(group=f"{application}.projections")}
