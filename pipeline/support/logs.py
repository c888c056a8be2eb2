"""Logging of every process: text or JSON lines on stderr, in UTC, without secrets.

A line of text has time, level, module and message; a JSON line has the role as well, and the number
of the process where several are one role. A line about a
request, or about events, has their correlation ids in brackets:

    2026-11-27T14:05:00.123Z ERROR   api.http.problems [01KB2…]: POST /deposit failed
"""

import errno
import logging
import math
import sys
from datetime import UTC, datetime
from typing import Final, Protocol

from pythonjsonlogger.json import JsonFormatter

from pipeline.model.visible import visible
from pipeline.support import correlation
from pipeline.support.process_group import Member
from pipeline.support.redaction import Redaction
from pipeline.support.settings import Settings

CHATTY: Final = ("aiohttp.access", "elastic_transport", "faust", "mode", "pymongo")
"""Libraries that log every request: shown from WARNING on, or whole at DEBUG."""

REPEATED: Final = (
    "asyncio",
    "elastic_transport.node_pool",
    "elastic_transport.transport",
    "faust.topics",
    "faust.transport.producer",
    "mode.timers",
)
"""Parts of them that warn again with each attempt or message; we log the same once ourselves."""


class Stream(Protocol):
    """Where log lines go: each, with its line end, in one `write`."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


def setup(settings: Settings, role: str, stream: Stream | None = None) -> None:
    """Send every log of this process to stderr, or `stream`, as the settings say."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    formatter = _Json(role) if settings.log_format == "json" else _Text()
    handler.setFormatter(_Redacting(formatter, Redaction(settings)))
    handler.addFilter(_serving)
    handler.addFilter(_OutOfFiles())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    chatty = logging.NOTSET if settings.log_level == "DEBUG" else max(root.level, logging.WARNING)
    for name in CHATTY:
        logging.getLogger(name).setLevel(chatty)
    for name in REPEATED:
        logging.getLogger(name).setLevel(chatty and max(chatty, logging.ERROR))
    logging.captureWarnings(True)


def moment(created: float) -> str:
    """Seconds since the epoch as RFC 3339 text in UTC, to the millisecond, ending in `Z`."""
    text = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _serving(record: logging.LogRecord) -> bool:
    """A filter that passes every line, and adds the id of the request that it was logged for."""
    served = correlation.current()
    if served is not None:
        setattr(record, correlation.FIELD, served)
    return True


class _OutOfFiles(logging.Filter):
    """asyncio logs each connection that it can't accept, 128 a second, with a traceback: this lets
    one line a minute through."""

    _NUMBERS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
    _QUIET: Final = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._logged_at = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if record.name != "asyncio" or not isinstance(error, OSError):
            return True
        if error.errno not in self._NUMBERS:
            return True
        if record.created - self._logged_at < self._QUIET:
            return False
        self._logged_at = record.created
        record.msg, record.args = f"no connection is accepted: {error.strerror}", ()
        record.exc_info = record.exc_text = None
        return True


class _Redacting(logging.Formatter):
    """Another formatter's lines, tracebacks too, without secrets."""

    def __init__(self, lines: logging.Formatter, redact: Redaction) -> None:
        super().__init__()
        self._lines, self._redact = lines, redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._lines.format(record))


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s%(about)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        one = getattr(record, correlation.FIELD, None)
        ids = getattr(record, correlation.FIELDS, [one] if one else [])
        record.about = f" [{' '.join(ids)}]" if ids else ""
        return visible(super().format(record), lines=True)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return moment(record.created)


class _Json(JsonFormatter):
    def __init__(self, role: str) -> None:
        member = Member.of_this_process()
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"role": role} | ({} if member is None else {"process": member.number}),
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return moment(record.created)
