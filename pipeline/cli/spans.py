"""Spans of time in options of commands, such as 45m, 12h or 30d."""

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def span(text: str, units: str = "mhd") -> timedelta | None:
    """The span; None if the text is none in one of these units."""
    found = re.fullmatch(f"([0-9]{{1,6}})([{units}])", text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
