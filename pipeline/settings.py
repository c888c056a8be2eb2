"""Every setting, typed, with its default and its meaning, read from the environment (`BANK_…`)."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.projections import projections

PREFIX = "BANK_"
TEST_PREFIX = "BANK_TEST_"

Port = Annotated[int, Field(ge=1, le=65535)]
AnyPort = Annotated[int, Field(ge=0, le=65535)]


def _found(names: str) -> str:
    projections(names)
    return names


class SettingsError(Exception):
    """One or more `BANK_…` variables are unknown or wrong; the message names each."""


class Settings(BaseSettings):
    """What a process may be told from outside. Frozen: read once at start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    data_dir: Path = Field(
        Path(".bank"), description="Folder of the embedded servers' data and logs"
    )
    mongodb_url: str = Field(
        "mongodb://127.0.0.1:27017", pattern="^mongodb(\\+srv)?://", description="The event store"
    )
    mongodb_database: str = Field(
        "bank", pattern="^[A-Za-z0-9_-]{1,38}$", description="Database of the collection `events`"
    )
    nats_url: str = Field(
        "nats://127.0.0.1:4222",
        pattern="^(nats|tls|wss?)://",
        description="NATS with JetStream, 2.14+",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379", pattern="^(rediss?|unix)://", description="Leases"
    )
    elasticsearch_url: str = Field(
        "http://127.0.0.1:9200", pattern="^https?://", description="The projection"
    )
    partitions: int = Field(8, ge=1, le=256, description="Partitions of a new bank")
    projections: Annotated[str, AfterValidator(_found)] = Field(
        "balance statement",
        description="What a worker keeps: names, or package.module:NAME of your own",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that every role listens on")
    keys: Literal["on", "off", "off-although-others-can-reach-it"] = Field(
        "off", description="Whether the services ask for API keys: `bank keys create`"
    )
    keys_rate: float = Field(
        100,
        ge=0,
        description="Requests a second that a key may make of one replica; 0: any number",
    )
    keys_max_age_seconds: float = Field(
        900.0,
        gt=0,
        description="How long the services go by the keys they read last while NATS is away",
    )
    accounts_port: Port = Field(8000, description="Port of the account service")
    balances_port: Port = Field(8030, description="Port of the balance service")
    metrics_port: AnyPort = Field(
        0, description="Port of a forwarder's or worker's metrics; 0 takes any free one"
    )
    lease_seconds: float = Field(
        10.0, ge=0.5, le=600, description="A lease not renewed for so long is free to take"
    )
    stream_replicas: int = Field(1, ge=1, le=5, description="JetStream replicas of every stream")
    stream_max_age_hours: float = Field(
        0,
        ge=0,
        description="Events older than this leave the stream (never the store); 0 keeps all",
    )
    index_shards: int = Field(1, ge=1, le=1024, description="Elasticsearch shards of a generation")
    index_replicas: int = Field(
        0, ge=0, le=10, description="Elasticsearch replicas of a generation"
    )
    index_grace_seconds: float = Field(
        5.0,
        ge=0,
        description="How long a vanished index may be made by hand before it is made anew",
    )
    rebuild_rate: float = Field(
        0,
        ge=0,
        description="Events a second that a worker replays at most in a rebuild; 0: all it can",
    )
    rebuild_grace_seconds: float = Field(
        180.0,
        ge=0,
        description="How long a generation that a rebuild has replaced is kept for slow readers",
    )
    token_seconds: float = Field(
        120.0, gt=0, description="A quiet forwarder renews its resume token this often"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people or machines"
    )


class Described(NamedTuple):
    """One setting as `bank settings` shows it; secrets are masked."""

    name: str
    value: str
    default: str
    meaning: str


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; `SettingsError` names every variable that is unknown or wrong."""
    env = os.environ if environ is None else environ
    given = {
        name: value
        for name, value in env.items()
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and value != ""
    }
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    faults = [
        f"{name}: no such setting (`bank settings` lists all)"
        for name in given
        if name not in known
    ]
    try:
        settings = Settings(**{known[n]: v for n, v in given.items() if n in known})  # type: ignore[arg-type]
    except ValidationError as error:
        faults += [f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these very settings."""
    return {PREFIX + name.upper(): str(value) for name, value in settings.model_dump().items()}


def describe(settings: Settings) -> Iterator[Described]:
    """Each setting with its present value, default and meaning, in order of declaration."""
    for name, field in Settings.model_fields.items():
        yield Described(
            PREFIX + name.upper(),
            masked(str(getattr(settings, name))),
            str(field.default),
            field.description or "",
        )


def masked(value: str) -> str:
    """Hide the password of a URL; any other text stays as it is."""
    if "://" not in value or "@" not in value:
        return value
    parts = urlsplit(value)
    user, _, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{':***' if colon else ''}@{host}"))
