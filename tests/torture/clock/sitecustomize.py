"""Puts the wall clock of a Python process off by TORTURE_CLOCK_SECONDS; Python runs it at start.

The monotonic clock stays: it is what intervals are measured by, and no machine sets that.
"""

import datetime
import os
import time
from typing import Any

OFF = float(os.environ.get("TORTURE_CLOCK_SECONDS", "0"))

_time, _time_ns, _datetime = time.time, time.time_ns, datetime.datetime


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class Shifted(_datetime, metaclass=_Meta):  # type: ignore[valid-type, misc]
    """Stands in for `datetime`, and makes plain ones: drivers look at the exact type."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return _datetime(*args, **options)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + datetime.timedelta(seconds=OFF)

    @classmethod
    def utcnow(cls) -> Any:
        return _datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=OFF)


if OFF:
    time.time = lambda: _time() + OFF
    time.time_ns = lambda: _time_ns() + int(OFF * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]
