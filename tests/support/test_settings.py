"""Settings: read from the environment, checked at start, described, never shown with a password."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.support.settings import (
    PREFIX,
    Settings,
    SettingsError,
    describe,
    environment,
    load,
    masked,
)


def test_defaults_are_the_seeds_ports() -> None:
    settings = load({})
    assert settings.mongodb_url == "mongodb://127.0.0.1:27017"
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.redis_url == "redis://127.0.0.1:6379"
    assert settings.elasticsearch_url == "http://127.0.0.1:9200"
    assert (settings.accounts_port, settings.balances_port) == (8000, 8030)
    assert settings.metrics_port == 0
    assert settings.partitions == 8
    assert settings.data_dir == Path(".bank")


def test_a_variable_sets_its_setting() -> None:
    settings = load({"BANK_PARTITIONS": "16", "BANK_DATA_DIR": "/x", "PATH": "/bin"})
    assert settings.partitions == 16
    assert settings.data_dir == Path("/x")


def test_an_empty_variable_is_the_default() -> None:
    assert load({"BANK_PARTITIONS": ""}).partitions == 8


@pytest.mark.parametrize("value", ["", " ", "\t\n"], ids=ascii)
@pytest.mark.parametrize(
    "name",
    [
        "KEYS",
        "HOST",
        "MONGODB_URL",
        "NATS_USER",
        "NATS_TOKEN",
        "NATS_NKEY",
        "REDIS_PASSWORD",
        "REDIS_PASSWORD_FILE",
        "NATS_URL_FILE",
        "NATS_CREDS_FILE",
        "ELASTICSEARCH_CA_FILE",
        "ELASTICSEARCH_API_KEY",
    ],
)
def test_what_protects_is_not_set_to_nothing(name: str, value: str) -> None:
    """It would be off, or another server's: a variable that somebody meant to fill in."""
    with pytest.raises(SettingsError, match=f"^BANK_{name}: it is set to nothing"):
        load({f"BANK_{name}": value})


def test_a_blank_value_is_none_of_any_setting() -> None:
    for name in ("PARTITIONS", "DATA_DIR", "PROJECTIONS", "LOG_LEVEL"):
        with pytest.raises(SettingsError, match=f"^BANK_{name}: it is set to nothing"):
            load({f"BANK_{name}": " "})


def test_a_file_with_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(SettingsError, match=r"^BANK_REDIS_PASSWORD_FILE: the file is empty"):
        load({"BANK_REDIS_PASSWORD_FILE": str(tmp_path / "secret")})


def test_the_tests_own_variables_are_none_of_the_banks() -> None:
    load({"BANK_TEST_LONG": "1", "BANK_TEST_MONGODB_URL": "mongodb://x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BANK_PARTITION", "8"),
        ("BANK_PARTITIONS", "0"),
        ("BANK_PARTITIONS", "many"),
        ("BANK_ACCOUNTS_PORT", "65536"),
        ("BANK_METRICS_PORT", "-1"),
        ("BANK_METRICS_PORT", "65536"),
        ("BANK_MONGODB_URL", "http://127.0.0.1"),
        ("BANK_NATS_URL", "127.0.0.1:4222"),
        ("BANK_ELASTICSEARCH_URL", "localhost:9200"),
        ("BANK_MONGODB_DATABASE", "a b"),
        ("BANK_LEASE_SECONDS", "0"),
        ("BANK_LOG_LEVEL", "LOUD"),
        ("BANK_LOG_FORMAT", "xml"),
    ],
)
def test_an_unknown_or_wrong_variable_is_an_error_that_names_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({name: value})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"BANK_PARTITIONS": "0", "BANK_NOPE": "1", "BANK_LOG_LEVEL": "LOUD"})
    for name in ("BANK_PARTITIONS", "BANK_NOPE", "BANK_LOG_LEVEL"):
        assert name in str(caught.value)


def test_a_child_gets_these_very_settings() -> None:
    settings = load({"BANK_PARTITIONS": "3", "BANK_LEASE_SECONDS": "1.5", "BANK_DATA_DIR": "/x y"})
    assert load(environment(settings)) == settings


def test_a_child_process_reads_them() -> None:
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pipeline.support.settings import load; print(load().partitions)",
        ],
        env={**os.environ, **environment(load({"BANK_PARTITIONS": "5"}))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "5"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).partitions = 4  # type: ignore[misc]


def test_each_setting_is_described() -> None:
    described = list(describe(load({})))
    assert [each.name for each in described] == [PREFIX + n.upper() for n in Settings.model_fields]
    assert all(each.meaning for each in described)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("mongodb://ann:secret@db:27017/?x=1", "mongodb://ann:***@db:27017/?x=1"),
        ("redis://:secret@cache:6379", "redis://:***@cache:6379"),
        ("nats://token@host:4222", "nats://***@host:4222"),
        ("http://127.0.0.1:9200", "http://127.0.0.1:9200"),
        ("ann@example.org", "ann@example.org"),
    ],
)
def test_passwords_are_masked(value: str, shown: str) -> None:
    assert masked(value) == shown
