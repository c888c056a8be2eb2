"""Which options a server's URL may have: each driver's own tables are gone through, one by one."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import nats
import pytest
from elasticsearch import AsyncElasticsearch
from nats.aio.client import Client
from pymongo.common import VALIDATORS
from redis.asyncio import Redis, connection

from pipeline.support.settings import SettingsError, load
from pipeline.support.url_options import ALLOWED

ROOT = Path(__file__).parents[2]
URL = re.compile(r"BANK_(MONGODB|NATS|REDIS|ELASTICSEARCH)_URL[=:] *([^\s…\"`]+)")
BASES = {
    "mongodb": "mongodb://h/",
    "mongodb+srv": "mongodb+srv://a.example.org/",
    "redis": "redis://h/1",
    "rediss": "rediss://h",
    "redis+sentinel": "redis+sentinel://h/bank",
    "rediss+sentinel": "rediss+sentinel://h:1,i/bank/1",
    "unix": "unix:///run/redis.sock",
    "nats": "nats://h:4222",
    "tls": "tls://h:4222",
    "wss": "wss://h:443/path",
    "https": "https://h:9200/prefix",
}
SERVERS = {"mongodb+srv": "mongodb", "rediss": "redis", "unix": "redis", "tls": "nats"}
SERVERS |= {"redis+sentinel": "redis", "rediss+sentinel": "redis"}
SERVERS |= {"wss": "nats", "https": "elasticsearch"}


def refusal(url: str) -> str:
    """Why the settings refuse the URL; "" if they do not."""
    scheme = url.partition("://")[0]
    try:
        load({f"BANK_{SERVERS.get(scheme, scheme).upper()}_URL": url})
    except SettingsError as error:
        return str(error)
    return ""


def parameters(*callables: object) -> set[str]:
    return {name for each in callables for name in inspect.signature(each).parameters}  # type: ignore[arg-type]


def of_redis() -> set[str]:
    classes = [getattr(connection, f"{name}Connection") for name in ("", "SSL", "UnixDomainSocket")]
    pools = [connection.ConnectionPool, connection.BlockingConnectionPool]
    made = parameters(connection.AbstractConnection, Redis, *classes, *pools)
    return made | set(connection.URL_QUERY_ARGUMENT_PARSERS)


def known_to_drivers() -> Iterator[tuple[str, str]]:
    """Every option that the installed drivers know, by the scheme of a URL."""
    tables: Mapping[str, set[str]] = {
        "mongodb": set(VALIDATORS),
        "redis": of_redis(),
        "nats": parameters(nats.connect, Client.connect),
        "elasticsearch": parameters(AsyncElasticsearch),
    }
    for scheme in BASES:
        for name in tables[SERVERS.get(scheme, scheme)] - {"self"}:
            yield scheme, name


def test_only_what_is_listed_is_let_through_of_all_that_the_drivers_know() -> None:
    for scheme, name in known_to_drivers():
        listed = {option.lower() for option in ALLOWED.get(scheme, {})}
        why = refusal(f"{BASES[scheme]}?{name}=0.5")
        if name.lower() not in listed:
            assert f"the option {name} is not allowed" in why, (scheme, name)
        else:
            assert "not allowed" not in why, (scheme, name)


def test_each_option_listed_is_one_of_the_driver_and_may_be_written() -> None:
    of_mongodb = {name.lower() for name in VALIDATORS}
    for scheme, options in ALLOWED.items():
        known = of_mongodb if scheme.startswith("mongodb") else of_redis()
        for name, values in options.items():
            ours = name.removeprefix("sentinel_") if "sentinel" in scheme else name
            assert (name.lower() if scheme.startswith("mongodb") else ours) in known
            for value in values or {"true"}:
                assert not refusal(f"{BASES[scheme]}?{name}={value}"), (scheme, name)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mongodb://h/?tz_aware=true", "the option tz_aware is not allowed"),
        ("mongodb://h/?TLSINSECURE=true", "the option TLSINSECURE is not allowed"),
        ("mongodb://h/?replicaSet=rs0;tlsInsecure=true", "tlsInsecure"),
        ("mongodb://h/?tls%49nsecure=true", "an option is not allowed"),
        ("mongodb://h?tlsAllowInvalidCertificates=true", "tlsAllowInvalidCertificates"),
        # The driver reads on behind a `#`, where a URL ends for others.
        ("mongodb://h/#?tlsInsecure=true", "# is written %23"),
        ("mongodb://h/?replicaSet=rs0#&tlsInsecure=true", "# is written %23"),
        ("mongodb://h/?w=1", "the option w may only be majority"),
        ("mongodb://h/?w=majority&w=0", "the option w may only be majority"),
        ("mongodb://h/?appName=a&APPNAME=b", "the option APPNAME is there twice"),
        ("mongodb://h/?retryWrites=false", "the option retryWrites may only be true"),
        ("mongodb://h/?readPreference=secondary", "may only be primary"),
        ("mongodb+srv://a.example.org/?tls=false", "the option tls may only be true"),
        ("mongodb+srv://a.example.org/?srvAllowedHostsSuffix=evil", "srvAllowedHostsSuffix"),
        ("rediss://h?ssl_cert_reqs=none", "the option ssl_cert_reqs is not allowed"),
        ("rediss://h/1?ssl%5Fcert_reqs=none", "an option is not allowed"),
        ("rediss://h?db=1;ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("redis://h?host=evil", "the option host is not allowed"),
        ("redis://h?DB=1", "the option DB is not allowed"),
        ("redis://h?db", "an option is written name=value"),
        ("redis://h/1/2", "its path is the number of a database"),
        ("redis+sentinel://h", "its path is the sentinels' name"),
        ("redis+sentinel://h,i/bank/one", "its path is the sentinels' name"),
        ("redis+sentinel://h/bank?db=1", "the option db is not allowed"),
        ("redis+sentinel://h/bank?ssl_cert_reqs=none", "ssl_cert_reqs is not allowed"),
        ("redis://h/one", "its path is the number of a database"),
        ("nats://h:4222?tls_required=false", "the option tls_required is not allowed"),
        ("https://h:9200/?verify_certs=false", "the option verify_certs is not allowed"),
        ("https://h:9200/#verify_certs", "# is written %23"),
    ],
)
def test_refused(url: str, why: str) -> None:
    assert why in refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://bank:a%40b@m1:1,m2:2,[::1]:3/?replicaSet=rs0&authSource=admin",
        "mongodb+srv://bank:secret@bank.example.mongodb.net/?retryWrites=true&w=majority&appName=x",
        "mongodb://h/admin?directconnection=TRUE&connectTimeoutMS=500&compressors=zlib,snappy",
        "mongodb://h/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:x",
        "redis://:secret@h:6379/1",
        "redis://h?username=bank&password=secret&db=1",
        "redis+sentinel://bank:secret@h1:1,h2:2,h3/bank/1?sentinel_password=secret",
        "nats://token@h:4222",
        "https://user:secret@h:9200/prefix",
    ],
)
def test_let_through(url: str) -> None:
    assert not refusal(url)


def test_no_value_and_no_text_in_the_place_of_a_name_is_shown() -> None:
    for query in ("s3cret/x=1", "s3cret", "ssl_cert_reqs=s3cret"):
        assert "s3cret" not in refusal(f"redis://h?{query}")


def test_who_we_are_is_said_once() -> None:
    with pytest.raises(SettingsError, match="BANK_REDIS_PASSWORD: says who we are"):
        load({"BANK_REDIS_URL": "redis://h?password=x", "BANK_REDIS_PASSWORD": "y"})


def test_the_urls_that_we_deploy_and_document_are_let_through() -> None:
    files = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "compose.yaml"]
    files += [each for each in ROOT.glob("deploy/**/*") if each.is_file()]
    found = {
        (name, url.rstrip(".,;)"))
        for file in files
        for name, url in URL.findall(file.read_text(errors="replace"))
        if "://" in url and "$" not in url
    }
    assert len(found) > 4
    for name, url in found:
        load({f"BANK_{name}_URL": url})


def test_the_docs_list_each_option() -> None:
    text = (ROOT / "docs/security.md").read_text()
    for options in ALLOWED.values():
        for name, values in options.items():
            few = [f"{name}={value}" for value in values]
            assert any(f"`{each}`" in text for each in (name, *few)), name
