"""Lists of hosts in the URLs of NATS and Elasticsearch; what takes one host refuses a list."""

import logging

import pytest

from pipeline.embedded.startup_checks import placed_here
from pipeline.support.access import ServerAccess, masked
from pipeline.support.settings import SettingsError, describe, load
from tests.support.logged import logged


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("nats://a:1", ["nats://a:1"]),
        ("nats://a:1,b:2", ["nats://a:1", "nats://b:2"]),
        ("nats://a:1,nats://b:2", ["nats://a:1", "nats://b:2"]),
        ("nats://a:1,b:2,nats://c", ["nats://a:1", "nats://b:2", "nats://c"]),
        ("tls://token@a,b:2", ["tls://token@a", "tls://token@b:2"]),
        ("nats://u:p,q@a:1,b:2", ["nats://u:p,q@a:1", "nats://u:p,q@b:2"]),
        ("nats://a:1,nats://u:p@b:2", ["nats://u:p@a:1", "nats://u:p@b:2"]),
        ("nats://[::1]:1,[::2]:2", ["nats://[::1]:1", "nats://[::2]:2"]),
        ("nats://a:1,a:1", ["nats://a:1"]),
    ],
)
def test_a_list_of_nats_servers(url: str, urls: list[str]) -> None:
    assert load({"BANK_NATS_URL": url}).nats.urls == urls


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("http://a:1,b:2", ["http://a:1", "http://b:2"]),
        ("https://u:p@a,b:2/es", ["https://u:p@a/es", "https://u:p@b:2/es"]),
        ("https://u:p@a,https://u:p@b", ["https://u:p@a", "https://u:p@b"]),
    ],
)
def test_a_list_of_nodes_of_elasticsearch(url: str, urls: list[str]) -> None:
    assert load({"BANK_ELASTICSEARCH_URL": url}).elasticsearch.urls == urls


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://u:p@a:1,b:2/?replicaSet=rs0",
        "mongodb://%2Frun%2Fmongodb-27017.sock",
        "mongodb+srv://cluster.example",
    ],
)
def test_the_driver_of_mongodb_has_lists_of_its_own(url: str) -> None:
    assert load({"BANK_MONGODB_URL": url}).mongodb.url == url


@pytest.mark.parametrize(
    ("name", "url", "why"),
    [
        ("NATS", "nats://a:1,tls://b:2", "the same scheme"),
        ("NATS", "nats://a:1,ws://b:2", "the same scheme"),
        ("NATS", "nats://u:p@a:1,nats://v:p@b:2", "the same name and password"),
        ("NATS", "nats://u:p@a:1,v:p@b:2", "needs a host"),
        ("NATS", "nats://a:1,", "needs a host"),
        ("NATS", "nats://,a:1", "needs a host"),
        ("NATS", "nats://a:1,,b:2", "needs a host"),
        ("NATS", "nats://a:1, b:2", "has a space"),
        ("NATS", "nats://a:1, nats://b:2", "has a space"),
        ("NATS", "nats://a:1,b:0", "a port that is a number up to 65535"),
        ("NATS", "nats://a:1,b:65536", "a port that is a number up to 65535"),
        ("NATS", "nats://[::1]:1,[::g]:2", "needs a host"),
        ("NATS", "nats://[1.2.3.4]:1", "needs a host"),
        ("NATS", "nats://a..b:1", "needs a host"),
        ("NATS", f"nats://{'a' * 64}:1", "needs a host"),
        ("NATS", "nats://::1,::2", "needs a host"),
        ("NATS", "nats://a:1,nats://b:x", "needs a host"),
        ("NATS", "nats://a:1,nats://b:2?x=1", "option x is not allowed"),
        ("ELASTICSEARCH", "http://a:1/x,b:2", "after the last host"),
        ("ELASTICSEARCH", "http://a:1,https://b:2", "the same scheme"),
        ("REDIS", "redis://a:1,b:2", "names one host"),
        ("ELASTICSEARCH", "http://a:9200,b:99999", "a port that is a number up to 65535"),
        ("REDIS", "redis://a:1,redis://b:2", "names one host"),
        ("REDIS", "redis://a:70000", "a port that is a number up to 65535"),
        ("REDIS", "redis+sentinel://a:1,b:70000/bank", "a port that is a number up to 65535"),
        ("REDIS", "redis+sentinel://a:1,redis+sentinel://b:2/bank", "names its scheme once"),
        ("REDIS", "redis+sentinel://a:1/bank,b:2/bank", "sentinels' name of the primary"),
        ("REDIS", "redis+sentinel://a:1,b:2", "sentinels' name of the primary"),
        ("MONGODB", "mongodb://a:1,mongodb://b:2", "names its scheme once"),
        ("MONGODB", "mongodb://a:1,b:65536/", "a port that is a number up to 65535"),
        ("MONGODB", "mongodb+srv://a,b", "names one host"),
    ],
)
def test_a_list_that_can_not_be_followed_is_refused_in_words(name: str, url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"BANK_{name}_URL: .*{why}") as refused:
        load({f"BANK_{name}_URL": url})
    assert url not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://u:secret@a:1,b:2", "nats://u:***@a:1,b:2"),
        ("nats://a:1,nats://u:secret@b:2", "nats://a:1,nats://u:***@b:2"),
        ("nats://secret@a:1,nats://secret@b:2", "nats://***@a:1,nats://***@b:2"),
        (
            "redis+sentinel://u:secret@a:1,b:2/bank?sentinel_password=secret",
            "redis+sentinel://u:***@a:1,b:2/bank?sentinel_password=***",
        ),
        ("http://u:secret@a:1,http://u:secret@b:2", "http://u:***@a:1,http://u:***@b:2"),
    ],
)
def test_no_secret_of_a_list_is_shown(url: str, shown: str) -> None:
    names = {"nats": "NATS", "redis": "REDIS", "http": "ELASTICSEARCH"}
    name = next(f"BANK_{names[each]}_URL" for each in names if url.startswith(each))
    settings = load({name: url})
    assert masked(url) == str(ServerAccess(url)) == shown
    assert shown in [each.value for each in describe(settings) if each.name == name]


def test_the_log_shows_none_either() -> None:
    with logged(nats_url="nats://a:1,nats://bank:correct-horse@b:2") as stream:
        logging.getLogger("x").error("no: nats://a:1,nats://bank:correct-horse@b:2, correct-horse")
    assert "nats://a:1,nats://bank:***@b:2" in stream.getvalue()
    assert "correct-horse" not in stream.getvalue()


def test_a_list_and_another_identity_beside_it() -> None:
    with pytest.raises(SettingsError, match="BANK_NATS_TOKEN: says who we are"):
        load({"BANK_NATS_URL": "nats://a:1,nats://u:p@b:2", "BANK_NATS_TOKEN": "x"})


@pytest.mark.parametrize(
    ("name", "url", "here"),
    [
        ("nats", "nats://127.0.0.1:1", True),
        ("nats", "nats://127.0.0.1:1,127.0.0.1:2", False),
        ("nats", "nats://127.0.0.1:1,nats://127.0.0.1:2", False),
        ("elasticsearch", "http://127.0.0.1:1,127.0.0.1:2", False),
        ("redis", "redis+sentinel://127.0.0.1:1/bank", False),
    ],
)
def test_a_list_is_never_ours_to_start(name: str, url: str, here: bool) -> None:
    assert placed_here(name, ServerAccess(url), url.partition(":")[0]) is here
