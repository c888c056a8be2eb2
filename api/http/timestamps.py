"""Times in query parameters and bodies."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _moment(text: object) -> datetime | None:
    """The time as naive UTC, like the times of events; None if it is none."""
    try:
        if isinstance(text, str) and _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # a 30th of February, or outside of the years 1 to 9999
        pass
    return None


def _timestamp(text: str) -> datetime:
    if (moment := _moment(text)) is not None:
        return moment
    raise PydanticCustomError(
        "moment", "Must be a time as in RFC 3339, 2026-01-31T12:00:00Z; a + is written %2B"
    )


def _timestamp_in_body(text: object) -> datetime:
    if (moment := _moment(text)) is not None:
        return moment
    raise PydanticCustomError("moment", "Must be a time as in RFC 3339, 2026-01-31T12:00:00Z")


Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
"""A parameter that is a time as in RFC 3339."""
TimestampInBody = Annotated[datetime, BeforeValidator(_timestamp_in_body)]
"""A field of a body that is one."""
