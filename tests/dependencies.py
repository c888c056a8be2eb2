"""What the bank needs, all the way down, and the versions that `constraints.txt` has of it."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BANK: Final = "bank-transfer"
EXTRAS: Final = ("embedded", "otel", "dev")
"""The extras whose packages are in `constraints.txt`."""
CONSTRAINTS: Final = Path(__file__).parents[1] / "constraints.txt"

Environment = Mapping[str, str]
"""The variables of markers in which another machine or Python differs from this one."""


def needed(*extras: str, environment: Environment | None = None) -> set[str]:
    """The names of all packages that the bank needs with these extras, there or here.

    What the packages themselves need is read from those that are installed here.
    """
    seen, waiting = set[tuple[str, frozenset[str]]](), [(BANK, frozenset(extras))]
    while waiting:
        package = waiting.pop()
        if package not in seen:
            seen.add(package)
            waiting += _needs(*package, environment or {})
    return {name for name, _ in seen} - {BANK}


def _needs(
    name: str, extras: frozenset[str], environment: Environment
) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for each in map(Requirement, lines):
        if any(_applies(each, {**environment, "extra": extra}) for extra in (*extras, "")):
            yield canonicalize_name(each.name), frozenset(each.extras)


def _applies(requirement: Requirement, environment: Environment) -> bool:
    return not requirement.marker or requirement.marker.evaluate(dict(environment))


def constrained(environment: Environment | None = None) -> dict[str, str]:
    """The version of each package that `constraints.txt` has for that machine and Python."""
    lines = (line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#"))
    found = [each for each in map(Requirement, lines) if _applies(each, environment or {})]
    return {each.name: str(each.specifier).removeprefix("==") for each in found}
