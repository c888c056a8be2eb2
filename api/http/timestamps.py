"""Times in query parameters."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _timestamp(text: str) -> datetime:
    """The time as naive UTC, like the times of events."""
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # a 30th of February, or outside of the years 1 to 9999
        pass
    raise PydanticCustomError(
        "moment", "Must be a time as in RFC 3339, 2026-01-31T12:00:00Z; a + is written %2B"
    )


Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
"""A parameter that is a time as in RFC 3339."""
