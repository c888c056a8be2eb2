"""Access to each server: its URL, our credentials, and the files for TLS."""

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from pipeline.model.names import BANK, Names
from pipeline.support import url_options

PREFIX: Final = "BANK_"

_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?P<user>(?:[^@/?#\s]*@)?)(?P<hosts>[^@/?#\s]*)(?P<path>(?:[/?#][^@\s]*)?)"
)
_HOST: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)
_LAST_PORT: Final = 65_535
SECRET_IN_QUERY: Final = re.compile(
    r"([?&;]\w*(?:password|token|secret|properties)\w*=)(?P<value>[^&#]*)", re.I
)
NATS_SCHEMES: Final = ("nats", "tls", "ws", "wss")
_TLS: Final = ("tls", "wss", "rediss", "rediss+sentinel", "https", "mongodb+srv")
_LISTED: Final = (*NATS_SCHEMES, "http", "https")
"""Schemes of which a setting may list whole URLs."""
_ONE_HOST: Final = {
    **dict.fromkeys(
        ("redis", "rediss"),
        "names one host: for several, redis+sentinel://HOST:PORT,HOST:PORT/NAME names sentinels",
    ),
    "mongodb+srv": "names one host, whose DNS record lists the others",
}
_NEXT: Final = re.compile(f",(?=(?:{'|'.join(_LISTED)})://)")


def _well_formed(url: str) -> str:
    """Refuse what a driver would misread: it would show parts of a password as a host or port."""
    found = [_URL.fullmatch(each) for each in pieces(url)]
    for each in found:
        hosts = each["hosts"].split(",") if each else []
        if each and len(hosts) > 1 and each["scheme"] in _ONE_HOST:
            raise ValueError(_ONE_HOST[each["scheme"]])
        if not each or not (each["scheme"] == "unix" or all(map(_is_host, hosts))):
            raise ValueError(_unclear(url))
    if faults := list(_unlike(list(filter(None, found)))):
        raise ValueError("; ".join(faults))
    return url


def _is_host(text: str) -> bool:
    """Whether it is a host, perhaps with a port, as all drivers read it."""
    found = _HOST.fullmatch(text)
    if not found or not 0 < int(found["port"] or 1) <= _LAST_PORT:
        return False
    with suppress(ValueError):
        if found["ipv6"]:
            return bool(IPv6Address(found["ipv6"]))
        # A part of a name may be too long or empty. With % it is the path of a socket.
        return "%" in found["name"] or bool(found["name"].encode("idna"))
    return False


def _unclear(url: str) -> str:
    """What to say of a URL in which not each host is one."""
    scheme, _, rest = url.partition("://")
    if re.search(r"\s", url):
        return "has a space; hosts are listed as HOST:PORT,HOST:PORT, and in a password it is %20"
    if scheme not in _LISTED and f",{scheme}://" in rest:
        return "names its scheme once, and hosts as HOST:PORT,HOST:PORT"
    return (
        f"needs a host, and a port that is a number up to {_LAST_PORT}; in a name or password of "
        "it, @ is written %40, : %3A, / %2F, ? %3F and # %23"
    )


def _unlike(found: Sequence[re.Match[str]]) -> Iterator[str]:
    """What the driver could not follow in a list of hosts."""
    if len({each["scheme"] for each in found}) > 1:
        yield "all its URLs need the same scheme"
    if len({each["user"] for each in found if each["user"]}) > 1:
        yield "all its URLs need the same name and password, which may be written once"
    if found[0]["scheme"] in _LISTED and any("," in each["path"] for each in found):
        yield "a path comes after the last host"


def pieces(value: str) -> list[str]:
    """The whole URLs of a list; each may name several hosts. Of any other text that text."""
    return _NEXT.split(value)


def masked(value: str) -> str:
    """A URL, or a list of them, with `***` for its secrets: password, token of NATS, and secrets in
    the query.

    Any other text stays as it is.
    """
    return ",".join(map(_masked, pieces(value)))


def _masked(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    credentials, at, place = rest.rpartition("@")
    name, colon, _ = credentials.partition(":")
    if colon:
        name += ":***"
    elif name and scheme in NATS_SCHEMES:
        name = "***"
    place = SECRET_IN_QUERY.sub(r"\1***", place)
    return f"{scheme}://{name}{at}{place}"


@dataclass(frozen=True, slots=True, repr=False)
class ServerAccess:
    """Access to one server. As text it is the URL without secrets.

    `token` is NATS's, or an API key of Elasticsearch; `cert_file` may include the private key.
    `replicas`: on how many servers of NATS each stream and bucket is made. `names`: those of the
    application whose data the server has for us.
    """

    url: str
    user: str = ""
    password: str = ""
    token: str = ""
    nkey: str = ""
    creds_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    replicas: int = field(default=1, compare=False)
    names: Names = field(default=BANK, compare=False)

    @classmethod
    def of(cls, at: Self | str) -> "ServerAccess":
        """Of a URL alone, with nothing besides it."""
        return cls(at) if isinstance(at, str) else at

    def __str__(self) -> str:
        return masked(self.url)

    __repr__ = __str__

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def urls(self) -> list[str]:
        """A URL of each host of a list: name and password of one of them hold for all."""
        found = [each for piece in pieces(self.url) if (each := _URL.fullmatch(piece))]
        user = next((each["user"] for each in found if each["user"]), "")
        each_host = (
            f"{each['scheme']}://{user}{host}{each['path']}"
            for each in found
            for host in each["hosts"].split(",")
        )
        return list(dict.fromkeys(each_host)) or [self.url]

    @property
    def tls(self) -> bool:
        """Whether the URL asks for TLS. MongoDB's do that by options, which its driver reads."""
        return self.scheme in _TLS

    @property
    def guarded(self) -> bool:
        """Whether anything is set besides the URL."""
        return self != ServerAccess(self.url)

    def context(self) -> ssl.SSLContext:
        """The CA, or the system's, and our certificate. Raises OSError, SSLError."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            # Without a password for the key, OpenSSL would ask for it in the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        return context


Url = Annotated[str, AfterValidator(_well_formed), AfterValidator(url_options.check)]
User = Annotated[str, Field(description="Who we are there, unless the URL says it")]
Password = Annotated[SecretStr, Field(description="Password of that user")]
CaFile = Annotated[
    Path | None, Field(description="File of the CAs whose servers are trusted; else the system's")
]
CertFile = Annotated[Path | None, Field(description="File of the certificate that we show")]
KeyFile = Annotated[
    Path | None, Field(description="File of its private key; else that is in the same file")
]

SERVERS: Final = ("mongodb", "nats", "redis", "elasticsearch")


class AccessSettings(BaseSettings):
    """The settings of access to the four servers."""

    mongodb_url: Url = Field(
        "mongodb://127.0.0.1:27017", pattern="^mongodb(\\+srv)?://", description="The event store"
    )
    mongodb_user: User = ""
    mongodb_password: Password = SecretStr("")
    mongodb_ca_file: CaFile = None
    mongodb_cert_file: Annotated[
        Path | None, Field(description="File of the certificate that we show and its private key")
    ] = None
    nats_url: Url = Field(
        "nats://127.0.0.1:4222",
        pattern="^(nats|tls|wss?)://",
        description="NATS with JetStream, 2.14+",
    )
    nats_user: User = ""
    nats_password: Password = SecretStr("")
    nats_token: SecretStr = Field(SecretStr(""), description="In place of user and password")
    nats_nkey: SecretStr = Field(SecretStr(""), description="In place of those: an nkey's seed")
    nats_creds_file: Path | None = Field(
        None, description="In place of those: file with a JWT and its seed"
    )
    nats_ca_file: CaFile = None
    nats_cert_file: CertFile = None
    nats_key_file: KeyFile = None
    redis_url: Url = Field(
        "redis://127.0.0.1:6379", pattern="^(rediss?(\\+sentinel)?|unix)://", description="Leases"
    )
    redis_user: User = ""
    redis_password: Password = SecretStr("")
    redis_ca_file: CaFile = None
    redis_cert_file: CertFile = None
    redis_key_file: KeyFile = None
    elasticsearch_url: Url = Field(
        "http://127.0.0.1:9200", pattern="^https?://", description="The projection"
    )
    elasticsearch_user: User = ""
    elasticsearch_password: Password = SecretStr("")
    elasticsearch_api_key: SecretStr = Field(
        SecretStr(""), description="In place of user and password; as it comes, in base64"
    )
    elasticsearch_ca_file: CaFile = None
    elasticsearch_cert_file: CertFile = None
    elasticsearch_key_file: KeyFile = None

    @property
    def mongodb(self) -> ServerAccess:
        return self.access("mongodb")

    @property
    def nats(self) -> ServerAccess:
        return self.access("nats")

    @property
    def redis(self) -> ServerAccess:
        return self.access("redis")

    @property
    def elasticsearch(self) -> ServerAccess:
        return self.access("elasticsearch")

    @property
    def here(self) -> bool:
        """Whether all servers are where `bank up` starts them by default."""
        return all(self.access(server).url in self._defaults for server in SERVERS)

    @property
    def _defaults(self) -> set[str]:
        return {type(self).model_fields[f"{server}_url"].default for server in SERVERS}

    def advice(self, *servers: str) -> str:
        """What to do about those of `SERVERS` that do not answer.

        Servers can be started here for the default URLs alone; any other may be of a cluster.
        """
        urls = {f"{PREFIX}{server.upper()}_URL": self.access(server) for server in servers}
        here = [name for name, at in urls.items() if at.url in self._defaults]
        given = [f"{name} is {at}" for name, at in urls.items() if at.url not in self._defaults]
        lines = []
        if given:
            they = "does it run, and can it" if len(given) == 1 else "do they run, and can they"
            lines.append(f"{', '.join(given)}: {they} be reached from here?")
        if here:
            it, is_ = ("it", "it is") if len(here) == 1 else ("them", "they are")
            lines.append(f"Start {it} (`bank up`), or set {', '.join(here)} to where {is_}.")
        return "\n".join(lines)

    def access(self, server: str) -> ServerAccess:
        """Access to one of `SERVERS`."""

        def text(name: str) -> str:
            found = getattr(self, f"{server}_{name}", "")
            return found.get_secret_value() if isinstance(found, SecretStr) else str(found)

        def file(name: str) -> Path | None:
            found: Path | None = getattr(self, f"{server}_{name}_file", None)
            return found

        return ServerAccess(
            text("url"),
            text("user"),
            text("password"),
            text("token") or text("api_key"),
            text("nkey"),
            file("creds"),
            file("ca"),
            file("cert"),
            file("key"),
        )
