"""The options that the URL of a server may have: by scheme, and each with its allowed values.

A driver knows many more. Those that change what the code means (types of values, what a write has
to wait for, which member is read) or whom it trusts are not listed, and what is not listed is
refused: an option that a later driver brings, too.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

Values = frozenset[str]
ANY: Final[Values] = frozenset()
"""Every value is allowed."""

_TRUE: Final = frozenset({"true"})

# URLs that are copied from MongoDB Atlas say `retryWrites=true&w=majority`. The event store sets
# what it needs itself, so only the values that promise no less may be written.
_MONGODB: Final[Mapping[str, Values]] = {
    **dict.fromkeys(
        (
            "appName",
            "authMechanism",
            "authMechanismProperties",
            "authSource",
            "compressors",
            "connectTimeoutMS",
            "directConnection",
            "heartbeatFrequencyMS",
            "localThresholdMS",
            "maxConnecting",
            "maxIdleTimeMS",
            "maxPoolSize",
            "minPoolSize",
            "replicaSet",
            "serverMonitoringMode",
            "serverSelectionTimeoutMS",
            "socketTimeoutMS",
            "ssl",
            "tls",
            "tlsCAFile",
            "tlsCertificateKeyFile",
            "tlsCertificateKeyFilePassword",
            "tlsCRLFile",
            "waitQueueTimeoutMS",
            "zlibCompressionLevel",
        ),
        ANY,
    ),
    "journal": _TRUE,
    "readPreference": frozenset({"primary"}),
    "retryReads": _TRUE,
    "retryWrites": _TRUE,
    "w": frozenset({"majority"}),
}
_MONGODB_SRV: Final[Mapping[str, Values]] = {
    **_MONGODB,
    "srvMaxHosts": ANY,
    "srvServiceName": ANY,
    "ssl": _TRUE,
    "tls": _TRUE,
}
# No time-outs: a lease's are a part of its length, and the URL's would count in their place.
_REDIS: Final[Mapping[str, Values]] = dict.fromkeys(
    (
        "client_name",
        "db",
        "health_check_interval",
        "max_connections",
        "password",
        "socket_keepalive",
        "socket_read_size",
        "username",
    ),
    ANY,
)
_SENTINEL: Final[Mapping[str, Values]] = {
    **{name: values for name, values in _REDIS.items() if name != "db"},
    **dict.fromkeys(("sentinel_password", "sentinel_username"), ANY),
}
ALLOWED: Final[Mapping[str, Mapping[str, Values]]] = {
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB_SRV,
    "redis": _REDIS,
    "redis+sentinel": _SENTINEL,
    "rediss": _REDIS,
    "rediss+sentinel": _SENTINEL,
    "unix": _REDIS,
}
"""By scheme. NATS' and Elasticsearch's URLs have no options."""

_NAME: Final = re.compile(r"\w{1,50}", re.ASCII)
_REDIS_PATH: Final = re.compile(r"/?\d*")
_SENTINEL_PATH: Final = re.compile(r"/[\w.-]+(/\d*)?", re.ASCII)


def names(url: str) -> set[str]:
    """The names of a URL's options, as they are written."""
    return {name for name, _ in _options(url)}


def check(url: str) -> str:
    """The URL. Raises ValueError, which names each option that is not allowed and shows no value.

    The text is checked as it stands, before a driver decodes it: `ssl%5Fcert_reqs` is not listed.
    """
    if faults := list(_faults(url)):
        raise ValueError("; ".join(faults))
    return url


def _faults(url: str) -> Iterator[str]:
    scheme, _, rest = url.partition("://")
    if "#" in rest:  # some drivers end the URL there, others read on
        yield "# is written %23"
    path = re.sub(r"^[^/?#]*|[?#].*", "", rest)
    if scheme in ("redis", "rediss") and not _REDIS_PATH.fullmatch(path):
        yield "its path is the number of a database, or nothing"
    if scheme.endswith("+sentinel") and not _SENTINEL_PATH.fullmatch(path):
        yield "its path is the sentinels' name of the primary, and perhaps the number of a database"
    # MongoDB's driver reads names in either case, the one of Redis does not.
    fold = str.lower if scheme.startswith("mongodb") else str
    allowed = {fold(name): values for name, values in ALLOWED.get(scheme, {}).items()}
    known = set()
    for name, value in _options(url):
        shown = f"the option {name}" if _NAME.fullmatch(name) else "an option"
        if value is None:
            yield "an option is written name=value"
        elif (values := allowed.get(fold(name))) is None:
            yield f"{shown} is not allowed (docs/security.md lists those that are)"
        elif values and value not in values:
            yield f"{shown} may only be {' or '.join(sorted(values))}"
        elif fold(name) in known:
            yield f"{shown} is there twice"
        known.add(fold(name))


def _options(url: str) -> Iterator[tuple[str, str | None]]:
    """Names and values, None without a `=`. MongoDB's driver separates them at `;` as well."""
    for option in re.split("[&;]", url.partition("?")[2]):
        name, equals, value = option.partition("=")
        if option:
            yield name, value if equals else None
