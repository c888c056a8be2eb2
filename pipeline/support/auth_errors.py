"""Explains why a server refuses the connection, and which settings to check.

Drivers wrap such errors in others and call them a lost connection; this searches the whole chain.
"""

import re
import ssl
from collections.abc import Iterator
from typing import Final

from pipeline.support.access import PREFIX

NATS: Final = "nats"
_SERVERS: Final = {
    "pymongo": "mongodb",
    "nats": "nats",
    "redis": "redis",
    "elasticsearch": "elasticsearch",
    "elastic_transport": "elasticsearch",
}
NAMES: Final = {
    "mongodb": "MongoDB",
    "nats": "NATS",
    "redis": "Redis",
    "elasticsearch": "Elasticsearch",
}
_CREDENTIALS: Final = {
    "mongodb": ("user", "password"),
    "nats": ("creds_file", "nkey", "token", "user", "password"),
    "redis": ("user", "password"),
    "elasticsearch": ("api_key", "user", "password"),
}
_CODES: Final = {"mongodb": ("code", (13, 18)), "elasticsearch": ("status_code", (401, 403))}
_WORDS: Final = re.compile(
    r"authorization violation|user authentication|permissions violation"
    r"|WRONGPASS|NOAUTH|NOPERM|invalid (?:username-password|password)|authentication required"
    r"|HELLO must be called",
    re.IGNORECASE,
)
_UNTRUSTED: Final = re.compile(r"certificate verify failed:? ?(?P<why>[^(\]]*)", re.IGNORECASE)
_ALERT: Final = re.compile(r"\w*alert[ _](?P<why>[\w ]*)", re.IGNORECASE)
_NO_TLS: Final = re.compile(r"wrong[ _]version[ _]number|record[ _]layer|offers no TLS", re.I)


def refusal(error: BaseException, server: str | None = None) -> str | None:
    """The message for people; None for any other error, or one of no server that we know.

    `server` is the one that the error is of, if the error's class does not show it.
    """
    chain, server = list(_chain(error)), server or server_of(error)
    if server is None:
        return None
    reasons = (_of_tls(server, each) or _of_identity(server, each) for each in chain)
    return next(filter(None, reasons), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes and contexts, and the errors in its attribute `errors`."""
    visited: set[int] = set()
    left = [error]
    while left:
        each = left.pop(0)
        if isinstance(each, BaseException) and id(each) not in visited:
            visited.add(id(each))
            yield each
            inner = getattr(each, "errors", ())
            left += [each.__cause__, each.__context__]
            left += inner if isinstance(inner, list | tuple) else ()


def server_of(error: BaseException) -> str | None:
    """The server whose driver raised the error, or one in its chain; None: no driver did."""
    return next(filter(None, map(_server_of, _chain(error))), None)


def _server_of(error: BaseException) -> str | None:
    return _SERVERS.get(type(error).__module__.partition(".")[0])


def _of_tls(server: str, error: BaseException) -> str | None:
    text, name = str(error), NAMES[server]
    if not isinstance(error, ssl.SSLError) and "SSL" not in text:
        return None
    if found := _UNTRUSTED.search(text):
        why = found["why"].strip() or "unknown"
        settings = _all(server, "ca_file", "url")
        return f"The certificate of {name} is not trusted ({why}): see {settings}"
    if found := _ALERT.search(text):
        why = found["why"].replace("_", " ").strip().lower()
        return f"{name} does not accept our certificate ({why}): see {_all(server, 'cert_file')}"
    if _NO_TLS.search(text):
        return f"{name} does not speak TLS there: see {_all(server, 'url')}"
    return None


def _of_identity(server: str, error: BaseException) -> str | None:
    if not _has_code(server, error) and not _WORDS.search(str(error)):
        return None
    settings = _all(server, *_CREDENTIALS[server], "url")
    return f"{NAMES[server]} refuses our credentials, or what we ask for with them: see {settings}"


def _has_code(server: str, error: BaseException) -> bool:
    """Only of a server's own errors: on others an attribute of that name may be anything."""
    if _server_of(error) != server or server not in _CODES:
        return False
    attribute, codes = _CODES[server]
    return getattr(error, attribute, None) in codes


def _all(server: str, *settings: str) -> str:
    return ", ".join(f"{PREFIX}{server}_{setting}".upper() for setting in settings)
