"""A server that answers with an error is named with it, and not as one that does not answer."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from elastic_transport import ApiResponseMeta, ConnectionTimeout, HttpHeaders, NodeConfig
from elasticsearch import ApiError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from pymongo.errors import ExecutionTimeout, OperationFailure, ServerSelectionTimeoutError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from pipeline.cli.connections import no_answer, until_answered
from pipeline.cli.errors import explain
from pipeline.coordination.leases import LeaseUnavailable
from pipeline.embedded.health import all_health
from pipeline.embedded.process_registry import Process
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStreamError
from pipeline.operations.status.probe import Unknown, failed, probe
from pipeline.search import ProjectionUnavailable
from pipeline.support.readiness import readiness, worded
from pipeline.support.server_answers import answered
from pipeline.support.settings import load
from tests.ports import free_port

META = ApiResponseMeta(503, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "e", 9200))
FULL = JetStreamError(10008, "JetStream system temporarily unavailable")

ANSWERS: dict[str, Callable[[], Exception]] = {
    "NATS": lambda: FULL,
    "MongoDB": lambda: caused(StoreUnavailable("no"), OperationFailure("no, full error: {}", 91)),
    "Elasticsearch": lambda: caused(ProjectionUnavailable("no"), ApiError("no", META, {})),
    "Redis": lambda: caused(LeaseUnavailable("no"), ReadOnlyError("no")),
}
SILENT: dict[str, Callable[[], Exception]] = {
    "NATS": NoRespondersError,
    "MongoDB": lambda: caused(StoreUnavailable("no"), ServerSelectionTimeoutError("no")),
    "Elasticsearch": lambda: caused(ProjectionUnavailable("no"), ConnectionTimeout("no")),
    "Redis": lambda: caused(LeaseUnavailable("no"), RedisConnectionError("no")),
}


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@pytest.mark.parametrize("server", ANSWERS)
async def test_it_is_named_with_its_error(server: str) -> None:
    async def fails(error: Exception) -> str:
        raise error

    until = asyncio.get_running_loop().time() + 60
    found = await probe(server, partial(fails, ANSWERS[server]()), until)
    assert isinstance(found, Unknown)
    assert found.why.startswith(f"{server} answers with an error: ")
    silent = await probe(server, partial(fails, SILENT[server]()), until)
    assert silent == Unknown(f"{server} does not answer", server)
    if server == "Redis":  # no command asks it alone
        return
    assert explain(ANSWERS[server]()).message.startswith(f"{server} answers with an error: ")
    assert "full error" not in explain(ANSWERS[server]()).message
    assert "BANK_" not in explain(ANSWERS[server]()).message, "it need not be started"
    assert explain(SILENT[server]()).message.startswith(f"{server} does not answer: ")


def test_a_driver_without_the_time_to_ask_has_no_answer() -> None:
    assert answered(caused(StoreUnavailable("no"), ExecutionTimeout("no", 50))) is None


def test_what_was_handled_meanwhile_is_no_answer() -> None:
    silence = NatsTimeout()
    silence.__context__ = FULL
    assert answered(silence) is None


def test_a_command_tells_those_that_answer_from_the_silent() -> None:
    why = "NATS answers with an error: no (10008)"
    answers = [Unknown(why, "NATS"), Unknown("Redis does not answer", "Redis"), Unknown("x")]
    told = str(no_answer(load({}), failed(answers)))
    assert told.startswith(f"{why}\nno answer from Redis\n")
    assert "BANK_REDIS_URL" in told
    assert "BANK_NATS_URL" not in told


async def test_a_command_that_asks_again_says_what_it_was_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors: list[Exception] = [FULL, FULL]

    async def asked() -> int:
        if errors:
            raise errors.pop()
        return 1

    assert await until_answered(asked, "What was asked is not known") == 1
    told = f"NATS answers with an error: {FULL}; asking again. What was asked is not known\n"
    assert capsys.readouterr().err == told


async def test_readiness_shows_everybody_the_kind_of_error_alone() -> None:
    async def nats() -> None:
        raise FULL

    async def redis() -> None:
        raise ANSWERS["Redis"]()

    async def elasticsearch() -> None:
        raise SILENT["Elasticsearch"]()

    checks = {"nats": nats, "redis": redis, "elasticsearch": elasticsearch}
    found = await readiness(checks, 60)
    assert worded("No answer from", found.missing) == (
        f"No answer from elasticsearch. nats: answers with an error: {FULL}. "
        "redis: answers with an error: ReadOnlyError."
    )


@asynccontextmanager
async def saying(line: bytes) -> AsyncIterator[int]:
    """The port of a server that says a line to everybody."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("role", "line", "told"),
    [
        ("nats", b"INFO {}\r\n-ERR 'Authorization Violation'\r\n", "Authorization Violation"),
        ("redis", b"-LOADING Redis is loading\r\n", "LOADING Redis is loading"),
        ("elasticsearch", b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "503 Service Unavailable"),
        ("mongodb", b"\0\2errmsg\0\4\0\0\0bad\0\1ok\0", "bad"),
    ],
)
async def test_the_health_of_an_embedded_server_names_its_error(
    role: str, line: bytes, told: str
) -> None:
    async with saying(line) as port:
        said = Process(role, os.getpid(), f"x://127.0.0.1:{port}")
        assert await all_health([said]) == [f"answers with an error: {told}"]
    async with saying(b"INFO {}\r\nPONG\r\n") as port:
        other = Process(role, os.getpid(), f"x://127.0.0.1:{port}")
        assert await all_health([other]) == ["answers, but is not fit for a bank"]
    gone = Process(role, os.getpid(), f"x://127.0.0.1:{free_port()}")
    assert await all_health([gone]) == ["does not answer"]
