"""What a failed check says: what was expected and what is there, line by line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from difflib import unified_diff
from pprint import pformat
from typing import Any, Final

_WHOLE: Final = 1_000_000
"""Lines around a difference: all."""


def require_equal(what: str, expected: Any, actual: Any) -> None:
    """Raise an `AssertionError` that begins with `what` if the two differ."""
    __tracebackhide__ = True  # pytest then points at the check in the test
    if expected == actual:
        return
    before, after = (pformat(each, sort_dicts=False).splitlines() for each in (expected, actual))
    shown = unified_diff(before, after, "expected", "actual", n=_WHOLE, lineterm="")
    raise AssertionError("\n".join([f"{what}:", *shown]))


@contextmanager
def unchanged(by: str, look: Callable[[], Any]) -> Iterator[None]:
    """Raise an `AssertionError` that begins with `by` if the block changes what `look` returns.

    The engine keeps states and documents: after a failure it goes on from the very same ones.
    """
    __tracebackhide__ = True
    before = deepcopy(look())
    try:
        yield
    finally:
        require_equal(f"{by} changes what it is given", before, look())
