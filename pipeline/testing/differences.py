"""What a failed check says: what was expected and what is there, line by line."""

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
