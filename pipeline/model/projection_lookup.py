"""Finds the projections that a setting names: entry points, or `package.module:NAME`.

The engine knows no projection by itself. A package that has some declares each as an entry point of
the group `bank.projections`, as this one does in `pyproject.toml`.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from pipeline.model.projection import Projection

GROUP: Final = "bank.projections"
"""The group of entry points whose names a setting may use without the module."""

_NAME: Final = re.compile("[a-z][a-z0-9_]{0,30}")


class UnknownProjection(ValueError):
    """A setting names a projection that can't be found; the message is for people."""


def projections(names: str) -> tuple[Projection, ...]:
    """Those of a setting: `balance statement package.module:NAME`. Raises `UnknownProjection`."""
    found = tuple(_found(each) for each in re.split(r"[\s,]+", names.strip()) if each)
    if not found:
        raise UnknownProjection("name one projection at least, such as `balance`")
    for each in found:
        if _NAME.fullmatch(each.name) is None:
            raise UnknownProjection(f"{each.name!r} is no name: lower case letters, digits and _")
    if len({each.name for each in found}) < len(found):
        raise UnknownProjection(f"{names!r} has two of one name")
    return found


def chosen(name: str, among: Iterable[Projection]) -> Projection:
    """The one of that name. Raises `UnknownProjection`."""
    known = {each.name: each for each in among}
    if name not in known:
        raise UnknownProjection(f"There is no projection {name}, only {', '.join(known)}.")
    return known[name]


def _found(name: str) -> Projection:
    module, colon, attribute = name.partition(":")
    if not colon:
        declared = _declared()
        if name not in declared:
            raise UnknownProjection(
                f"{name!r} is neither {' nor '.join(declared)}; "
                "name your own as package.module:NAME"
            )
        module, _, attribute = declared[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownProjection(f"{name}: {error}") from error
    if not isinstance(found, Projection):
        raise UnknownProjection(f"{name} is no Projection")
    return found


@cache
def _declared() -> dict[str, str]:
    """Entry points by name, read once, because that searches every installed package."""
    return {each.name: each.value for each in entry_points(group=GROUP)}
