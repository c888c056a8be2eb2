"""What this process logs while a block runs, with given settings."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.support import logs
from pipeline.support.settings import Settings


@contextmanager
def logged(**update: Any) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    settings = Settings().model_copy(update={"log_level": "DEBUG", **update})
    logs.setup(settings, "accounts", stream)
    try:
        yield stream
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        for name in (*logs.CHATTY, *logs.REPEATED):
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.captureWarnings(False)
