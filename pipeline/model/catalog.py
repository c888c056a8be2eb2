"""The projections there are: those of this package, and any that a setting names by its module."""

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Final

from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.model.projection import Projection

__all__ = ["BALANCE", "STATEMENT", "UnknownProjection", "chosen", "projections"]

_OURS: Final = {each.name: each for each in (BALANCE, STATEMENT)}
_NAME: Final = re.compile("[a-z][a-z0-9_]{0,30}")


class UnknownProjection(ValueError):
    """A setting names a projection that is not to be found; the message is for people."""


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
    if name in _OURS:
        return _OURS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UnknownProjection(
            f"{name!r} is neither {' nor '.join(_OURS)}; name your own as package.module:NAME"
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownProjection(f"{name}: {error}") from error
    if not isinstance(found, Projection):
        raise UnknownProjection(f"{name} is no Projection")
    return found
