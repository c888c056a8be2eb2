"""Which errors say that we are not let in, whatever a driver wraps them in."""

import ssl

import pytest
from elastic_transport import TlsError
from nats.errors import Error as NatsError
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.coordination.leases import LeaseUnavailable
from pipeline.eventstore import StoreUnavailable
from pipeline.support.auth_errors import NATS, refusal
from pipeline.support.retry import brief

UNTRUSTED = ssl.SSLCertVerificationError(
    1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_x)"
)


@pytest.mark.parametrize(
    ("error", "said", "setting"),
    [
        (OperationFailure("no", 18), "MongoDB refuses our credentials", "MONGODB_PASSWORD"),
        (OperationFailure("no", 13), "MongoDB refuses our credentials", "MONGODB_USER"),
        (
            ServerSelectionTimeoutError(f"SSL handshake failed: m:1: {UNTRUSTED}"),
            "The certificate of MongoDB is not trusted (certificate has expired)",
            "MONGODB_CA_FILE",
        ),
        (
            ServerSelectionTimeoutError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert x"),
            "MongoDB does not accept our certificate",
            "MONGODB_CERT_FILE",
        ),
        (AuthenticationError("WRONGPASS invalid"), "Redis refuses", "REDIS_PASSWORD"),
        (NoPermissionError("NOPERM this user"), "Redis refuses", "REDIS_USER"),
        (RedisConnectionError(f"Error 1: {UNTRUSTED}"), "Redis is not trusted", "REDIS_CA_FILE"),
        (NatsError("nats: 'Authorization Violation'"), "NATS refuses", "NATS_CREDS_FILE"),
        (NatsError("nats: 'User Authentication Expired'"), "NATS refuses", "NATS_CREDS_FILE"),
        (TlsError("TLS error", errors=(UNTRUSTED,)), "is not trusted", "ELASTICSEARCH_CA_FILE"),
    ],
)
def test_a_refusal_is_told_with_the_setting(error: Exception, said: str, setting: str) -> None:
    for raised in (error, wrapped(error)):
        told = refusal(raised)
        assert told is not None
        assert said in told
        assert f"BANK_{setting}" in told
        assert brief(raised).startswith(told)


def wrapped(error: Exception) -> Exception:
    """As the store and the leases raise it."""
    try:
        try:
            raise error
        except Exception as cause:
            raise StoreUnavailable(str(cause)) from cause
    except StoreUnavailable as found:
        return found


def test_it_is_told_once() -> None:
    inner = AuthenticationError("WRONGPASS invalid")
    told = refusal(inner)
    assert told is not None
    outer = LeaseUnavailable(brief(inner))
    outer.__cause__ = inner
    assert brief(outer).count(told) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError("refused"),
        ServerSelectionTimeoutError("m:1: connection refused"),
        OperationFailure("a duplicate", 11000),
        RedisConnectionError("Error 111 connecting to r:1"),
        NatsError("nats: timeout"),
        ValueError("authorization violation"),
        UNTRUSTED,
    ],
)
def test_anything_else_is_none(error: Exception) -> None:
    assert refusal(error) is None


def test_errors_of_other_libraries_are_not_asked_for_a_code() -> None:
    """Some warn when they are."""

    class Foreign(Exception):
        @property
        def code(self) -> int:
            raise AssertionError

    for server in (None, NATS, "mongodb"):
        assert refusal(Foreign("elsewhere"), server) is None


def test_whose_error_it_is_can_be_said() -> None:
    assert "BANK_NATS_CA_FILE" in (refusal(UNTRUSTED, NATS) or "")
    assert "BANK_NATS_URL" in (refusal(ssl.SSLError("the server offers no TLS"), NATS) or "")
