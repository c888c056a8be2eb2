"""`constraints.txt`: all that is installed is in it, and nothing in it names an address."""

import re
from importlib.metadata import version

from tests.dependencies import CONSTRAINTS, EXTRAS, constrained, needed

LINE = re.compile(r"[a-z0-9-]+==[\w.]+(; python_version == '[\d.]+'( or [\w =.']+)?)?")


def test_it_has_the_installed_version_of_every_dependency() -> None:
    """Else run `scripts/constraints.py`, or install again by it."""
    names = needed(*EXTRAS)
    assert len(names) > 100
    assert {name: version(name) for name in names} == constrained()


def test_it_has_names_and_versions_alone() -> None:
    head, *lines = CONSTRAINTS.read_text().splitlines()
    assert head.startswith("# ")
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)
    assert "/" not in "".join(lines)
