"""Ends a command quietly when nobody reads its output any more: `bank trace ID | head`."""

import io
import os
import signal
from typing import Final, TextIO

EXIT_CODE: Final = 128 + signal.SIGPIPE
"""As of a program that the signal ends. Python ignores it, for it would end a process also for a
lost connection to a server."""


class _Descriptor(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            # Whatever is written while the process ends goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            # No OSError: that would be taken for a lost connection.
            raise SystemExit(EXIT_CODE) from None


def ending_with_reader(stream: TextIO) -> TextIO:
    """The stream, which raises `SystemExit` when its reader is gone."""
    raw = _Descriptor(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )
