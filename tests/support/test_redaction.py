"""No line of the log has a secret, whoever logs it; and an outage of files is one line."""

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from pipeline.operations import keys
from pipeline.support import logs
from pipeline.support.settings import Settings

_, KEY = keys.new(keys.Role.TELLER)
SECRETS = {
    KEY: KEY,
    f"b'Authorization: Bearer {KEY}\\r'": KEY,
    "authorization: BASIC YmFuazpodW50ZXIy": "YmFuazpodW50ZXIy",
    "{'Authorization': 'ApiKey dGhpcyBpcyBpdA=='}": "dGhpcyBpcyBpdA==",
    "mongodb://bank:hun:t@r2@mongo:27017/x": "hun:t@r2",
    "could not reach redis://:hunter2@redis:6379": "hunter2",
    "GET https://x/y?access_token=hunter2&a=b": "hunter2",
    "connected with correct-horse-battery": "correct-horse-battery",
    "connected with correct%2Fhorse-url": "correct%2Fhorse-url",
}


@pytest.fixture(params=["text", "json"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    settings = Settings().model_copy(
        update={
            "log_format": request.param,
            "log_level": "DEBUG",
            "redis_password": SecretStr("correct-horse-battery"),
            "mongodb_url": "mongodb://bank:correct%2Fhorse-url@mongo",
        }
    )
    logs.setup(settings, "accounts", stream)
    try:
        yield stream
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        for name in (*logs.CHATTY, *logs.REPEATED):
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.captureWarnings(False)


@pytest.mark.parametrize(
    "logger", ["aiohttp.server", "asyncio", "pymongo.command", "elastic_transport", "nats", "faust"]
)
def test_no_library_logs_a_secret(lines: io.StringIO, logger: str) -> None:
    for text, secret in SECRETS.items():
        try:
            raise ValueError(text)
        except ValueError as error:
            logging.getLogger(logger).error("failed: %s", text, exc_info=error)
        assert secret not in lines.getvalue()
        assert "***" in lines.getvalue()
        if lines.getvalue().startswith("{"):
            assert all(json.loads(line) for line in lines.getvalue().splitlines())
        lines.truncate(lines.seek(0))


def test_what_is_no_secret_stays(lines: io.StringIO) -> None:
    plain = "http://127.0.0.1:8000 and bank@example.org, redis://redis:6379/0, at bank_events"
    logging.getLogger("x").info(plain)
    assert plain in lines.getvalue()


def test_an_outage_of_files_is_one_line(lines: io.StringIO) -> None:
    for _ in range(1000):
        error = OSError(errno.EMFILE, "Too many open files")
        logging.getLogger("asyncio").error("socket.accept() out of", exc_info=error)
    logging.getLogger("asyncio").error("another", exc_info=OSError(errno.EIO, "x"))
    text = lines.getvalue()
    assert text.count("no connection is accepted: Too many open files") == 1
    assert "socket.accept" not in text
    assert "another" in text
