"""How servers are reached, by settings: secrets from files, what is refused at start, and how."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.cli.main import main
from pipeline.support.access import SERVERS, ServerAccess, masked
from pipeline.support.settings import SettingsError, describe, environment, load

SECRET = "h5Kq-vWz2"
SEED = "SU" + "A" * 56


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Files as they should be, and some that are not."""
    folder = tmp_path_factory.mktemp("files")
    made = {name: folder / name for name in ("ca", "cert", "key", "both", "other", "locked")}
    ca = trustme.CA()
    ours, other = ca.issue_cert("127.0.0.1"), ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(made["ca"])
    ours.cert_chain_pems[0].write_to_path(made["cert"])
    ours.private_key_pem.write_to_path(made["key"])
    ours.private_key_and_cert_chain_pem.write_to_path(made["both"])
    other.private_key_pem.write_to_path(made["other"])
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(SECRET.encode()),
    )
    made["locked"].write_bytes(ours.cert_chain_pems[0].bytes() + locked)
    made["text"] = folder / "text"
    made["text"].write_text(f"{SECRET}\n")
    return made


def refused(given: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(given)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_secret_comes_from_a_file(files: Mapping[str, Path]) -> None:
    settings = load({"BANK_REDIS_PASSWORD_FILE": str(files["text"])})
    assert settings.redis.password == SECRET
    assert settings.redis.user == ""


def test_so_does_a_url(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"nats://bank:{SECRET}@nats:4222\n")
    settings = load({"BANK_NATS_URL_FILE": str(tmp_path / "url")})
    assert settings.nats_url == f"nats://bank:{SECRET}@nats:4222"
    assert str(settings.nats) == repr(settings.nats) == "nats://bank:***@nats:4222"


def test_every_secret_and_every_url_may_and_nothing_else() -> None:
    names = {"NATS_TOKEN", "NATS_NKEY", "ELASTICSEARCH_API_KEY"}
    names |= {f"{server.upper()}_{what}" for server in SERVERS for what in ("URL", "PASSWORD")}
    for name in names:
        said = refused({f"BANK_{name}_FILE": f"/nowhere/{SECRET}"})
        assert said == f"BANK_{name}_FILE: the file can't be read: No such file or directory"
    assert "no such setting" in refused({"BANK_PARTITIONS_FILE": "/nowhere"})


def test_a_secret_is_given_once(files: Mapping[str, Path]) -> None:
    given = {"BANK_NATS_TOKEN": SECRET, "BANK_NATS_TOKEN_FILE": str(files["text"])}
    assert "BANK_NATS_TOKEN_FILE: BANK_NATS_TOKEN is set as well" in refused(given)


def test_children_get_the_value_and_not_the_file(files: Mapping[str, Path]) -> None:
    given = {"BANK_REDIS_PASSWORD_FILE": str(files["text"]), "BANK_NATS_CA_FILE": str(files["ca"])}
    given["BANK_NATS_URL"] = "tls://nats:4222"
    settings = load(given)
    assert load({**given, **environment(settings)}) == settings


def test_nothing_shows_a_secret(files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "BANK_REDIS_URL": f"redis://bank:{SECRET}@redis",
        "BANK_NATS_TOKEN": SECRET,
        "BANK_ELASTICSEARCH_API_KEY_FILE": str(files["text"]),
        "BANK_MONGODB_USER": "bank",
        "BANK_MONGODB_PASSWORD": SECRET,
    }
    settings = load(given)
    shown = {each.name: each.value for each in describe(settings)}
    assert shown["BANK_NATS_TOKEN"] == shown["BANK_MONGODB_PASSWORD"] == "**********"
    assert shown["BANK_NATS_PASSWORD"] == ""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    printed = CliRunner().invoke(main, ["settings", "--json"])
    assert {each["name"]: each["value"] for each in json.loads(printed.output)} == shown
    for text in (printed.output, str(shown), *map(str, map(settings.access, SERVERS))):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("MONGODB_URL", {"MONGODB_URL": f"mongodb://bank:{SECRET}/x@mongo:27017"}),
        ("REDIS_URL", {"REDIS_URL": f"redis://bank:a@{SECRET}@redis:6379"}),
        ("REDIS_URL", {"REDIS_URL": f"redis://bank:#{SECRET}@redis:6379"}),
        ("NATS_URL", {"NATS_URL": f"nats://bank:{SECRET}"}),
        ("ELASTICSEARCH_URL", {"ELASTICSEARCH_URL": f"http://e:9200?{SECRET}@e"}),
        (
            "MONGODB_PASSWORD",
            {"MONGODB_URL": "mongodb://a:b@m", "MONGODB_USER": "a", "MONGODB_PASSWORD": SECRET},
        ),
        ("MONGODB_USER", {"MONGODB_PASSWORD": SECRET}),
        ("NATS_PASSWORD", {"NATS_USER": "bank"}),
        ("NATS_TOKEN", {"NATS_USER": "a", "NATS_PASSWORD": SECRET, "NATS_TOKEN": SECRET}),
        ("NATS_NKEY", {"NATS_NKEY": SECRET}),
        ("NATS_NKEY", {"NATS_NKEY": SEED, "NATS_TOKEN": SECRET}),
        ("NATS_CREDS_FILE", {"NATS_CREDS_FILE": "{text}"}),
        ("NATS_CREDS_FILE", {"NATS_CREDS_FILE": f"/nowhere/{SECRET}"}),
        (
            "ELASTICSEARCH_API_KEY",
            {"ELASTICSEARCH_URL": "http://a:b@e", "ELASTICSEARCH_API_KEY": SECRET},
        ),
        ("NATS_CA_FILE", {"NATS_URL": "tls://n", "NATS_CA_FILE": f"/nowhere/{SECRET}"}),
        ("NATS_CA_FILE", {"NATS_URL": "tls://n", "NATS_CA_FILE": "{text}"}),
        ("NATS_CA_FILE", {"NATS_CA_FILE": "{ca}"}),
        ("REDIS_CERT_FILE", {"REDIS_CERT_FILE": "{both}"}),
        ("MONGODB_CA_FILE", {"MONGODB_URL": "mongodb://m/?tls=false", "MONGODB_CA_FILE": "{ca}"}),
        ("MONGODB_CERT_FILE", {"MONGODB_CERT_FILE": "{cert}"}),
        ("REDIS_CERT_FILE", {"REDIS_URL": "rediss://r", "REDIS_KEY_FILE": "{key}"}),
        ("REDIS_CERT_FILE", {"REDIS_URL": "rediss://r", "REDIS_CERT_FILE": "{text}"}),
        (
            "ELASTICSEARCH_KEY_FILE",
            {
                "ELASTICSEARCH_URL": "https://e",
                "ELASTICSEARCH_CERT_FILE": "{cert}",
                "ELASTICSEARCH_KEY_FILE": "{other}",
            },
        ),
        ("NATS_CERT_FILE", {"NATS_URL": "tls://n", "NATS_CERT_FILE": "{locked}"}),
    ],
)
def test_what_can_not_be_used_is_refused_by_name(
    files: Mapping[str, Path], setting: str, given: Mapping[str, str]
) -> None:
    named = {name: str(path) for name, path in files.items()}
    told = {f"BANK_{name}": named.get(value.strip("{}"), value) for name, value in given.items()}
    lines = refused(told).splitlines()
    assert not any(name.lower() in "\n".join(lines) for name in given)
    assert [line.partition(":")[0] for line in lines] == [f"BANK_{setting}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0)
    said = refused({"BANK_NATS_TOKEN_FILE": str(tmp_path / "key")})
    assert said == "BANK_NATS_TOKEN_FILE: the file can't be read: Permission denied"


def test_files_that_are_as_they_should_be_are_taken(files: Mapping[str, Path]) -> None:
    given = {"BANK_MONGODB_CA_FILE": files["ca"], "BANK_MONGODB_CERT_FILE": files["both"]}
    for server, url in (
        ("NATS", "tls://n"),
        ("REDIS", "rediss://r"),
        ("ELASTICSEARCH", "https://e"),
    ):
        given |= {
            f"BANK_{server}_{name.upper()}_FILE": files[name] for name in ("ca", "cert", "key")
        }
        given[f"BANK_{server}_URL"] = Path(url)
    told = {name: str(value).replace(":/", "://") for name, value in given.items()}
    settings = load(told)
    assert settings.nats.tls
    assert settings.mongodb.guarded
    assert not load({"BANK_STREAM_REPLICAS": "3"}).nats.guarded


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://bank:a%40b@m1,m2:1/?x=1", "mongodb://bank:***@m1,m2:1/?x=1"),
        (
            "redis://r?username=bank&password=secret&db=1",
            "redis://r?username=bank&password=***&db=1",
        ),
        (
            "mongodb://m/?tlsCertificateKeyFilePassword=x",
            "mongodb://m/?tlsCertificateKeyFilePassword=***",
        ),
        (
            "mongodb://m/?authMechanismProperties=AWS_SESSION_TOKEN:x",
            "mongodb://m/?authMechanismProperties=***",
        ),
        ("redis://a:b/c@r:1", "redis://a:***@r:1"),
        ("tls://token@n", "tls://***@n"),
        ("mongodb://CN=bank@m", "mongodb://CN=bank@m"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert masked(url) == str(ServerAccess(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://bank:a%40b@m1:1,m2:2,[::1]:3/?replicaSet=rs0&authSource=admin",
        "mongodb+srv://bank:x@cluster.example",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock",
    ],
)
def test_urls_that_drivers_take_are_taken(url: str) -> None:
    assert load({"BANK_MONGODB_URL": url}).mongodb_url == url
    assert load({"BANK_REDIS_URL": "unix:///run/redis.sock?db=1"}).redis.scheme == "unix"
