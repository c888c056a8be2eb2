"""No line of the log has a secret, whoever logs it; and an outage of files is one line."""

import errno
import io
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from pipeline.operations import keys
from tests.support.logged import logged

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
ODD = (
    'quo"te-horse',
    "back\\slash-horse",
    "apo'stro\"phe-horse",
    "passwört-höß",
    "a\tb\x1bc-horse",
    "key-😀-of-a-horse",
)
"""What comes into a line with escapes."""
IN_URLS = {
    "mongodb_url": "mongodb://bank:correct%2Fhorse-url@mongo/"
    "?tls=true;tlsCertificateKeyFilePassword=key%2Ffile-horse",
    "redis_url": "redis://redis:6379/0?password=in-the-query",
    "nats_url": "nats://token-of-nats@nats:4222",
}
ALONE = ("key/file-horse", "key%2Ffile-horse", "in-the-query", "token-of-nats")


@pytest.fixture(params=["text", "json"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    password = SecretStr("correct-horse-battery")
    with logged(log_format=request.param, redis_password=password, **IN_URLS) as stream:
        yield stream


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("secret", ODD)
def test_a_secret_that_is_written_with_escapes(form: str, secret: str) -> None:
    both = f"{secret} of 'a' and \"b\""
    with logged(log_format=form, redis_password=SecretStr(secret)) as stream:
        shown = (secret, [secret], ascii(secret), [both], secret.encode(), json.dumps(secret))
        for each in (*shown, quote(secret), [json.dumps(secret)]):
            try:
                raise ValueError(each)
            except ValueError as error:
                logging.getLogger("x").error("wrong: %s.", each, exc_info=error)
            text = stream.getvalue()
            assert "horse" not in text
            assert "wört" not in text
            assert "rt-h" not in text, text
            assert "***" in text
            stream.truncate(stream.seek(0))


def test_what_urls_hold_alone(lines: io.StringIO) -> None:
    for secret in ALONE:
        logging.getLogger("x").error("refused %r", secret)
        assert secret not in lines.getvalue()


def test_a_nats_url_of_somebody_else(lines: io.StringIO) -> None:
    logging.getLogger("x").error("no answer of nats://tok@nats:4222 and tls://tok@nats")
    assert "tok" not in lines.getvalue()
    assert "nats://***@nats:4222" in lines.getvalue()


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
