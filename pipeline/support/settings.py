"""Every setting, typed, with its default and its meaning, read from the environment (`BANK_…`)."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from pipeline.application import Application, UnknownApplication, application
from pipeline.model import upcasters
from pipeline.model.names import BANK, Names
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import projections
from pipeline.support import credentials
from pipeline.support.access import PREFIX as PREFIX
from pipeline.support.access import AccessSettings, ServerAccess
from pipeline.support.access import masked as masked

TEST_PREFIX = "BANK_TEST_"

Port = Annotated[int, Field(ge=1, le=65535)]
AnyPort = Annotated[int, Field(ge=0, le=65535)]


def _application(name: str) -> str:
    application(name)
    return name


def _projections(listed: str, info: ValidationInfo) -> str:
    if (name := info.data.get("application")) is not None:
        _kept(listed, name)
    return listed


def _kept(listed: str, name: str) -> tuple[Projection, ...]:
    chosen = application(name)
    return projections(listed, chosen.projections, chosen.names)


class SettingsError(Exception):
    """One or more `BANK_…` variables are unknown or wrong; the message names each."""


class Settings(AccessSettings):
    """The settings of a process, from its environment. Frozen: read once at start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    application: Annotated[str, AfterValidator(_application)] = Field(
        BANK.application,
        description="What runs on the engine: a name, or package.module:NAME of your own",
    )
    data_dir: Path = Field(
        Path(".bank"), description="Folder of the embedded servers' data and logs"
    )
    mongodb_database: str = Field(
        BANK.database,
        pattern="^[A-Za-z0-9_-]{1,38}$",
        description="Database of the collection `events`; by default named as the application",
    )
    partitions: int = Field(8, ge=1, le=256, description="Partitions of a new bank")
    projections: Annotated[str, AfterValidator(_projections)] = Field(
        "balance statement",
        description="What a worker keeps: names, or package.module:NAME of your own; by default "
        "all of the application",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that every role listens on")
    keys: Literal["on", "off", "off-although-others-can-reach-it"] = Field(
        "off", description="Whether the services ask for API keys: `bank keys create`"
    )
    keys_rate: float = Field(
        100,
        ge=0,
        description="Requests a second that a key may make of one process; 0: any number",
    )
    keys_max_age_seconds: float = Field(
        900.0,
        gt=0,
        description="How long the services go by the keys they read last while NATS is away",
    )
    chains: Literal["on", "off"] = Field(
        "on", description="Whether accounts begin their chain of hashes; begun ones always go on"
    )
    encryption: Literal["on", "off"] = Field(
        "on", description="Whether personal fields of new events are encrypted (docs/forgetting.md)"
    )
    accounts_port: Port = Field(8000, description="Port of the account service")
    accounts_url: str = Field(
        "",
        pattern=r"^(https?://[^/@?#\s]+)?$",
        description="Where the balance service sends the page's commands; by default the account "
        "service of this machine",
    )
    balances_port: Port = Field(8030, description="Port of the balance service")
    metrics_port: AnyPort = Field(
        0, description="Port of a forwarder's or worker's metrics; 0 takes any free one"
    )
    allowed_hosts: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._ -]*$",
        description="Names, besides localhost and addresses, to call a role by while keys are off",
    )
    http_connections: int = Field(
        1000,
        ge=8,
        description="HTTP connections of a process at most; fewer if it may not open so many files",
    )
    http_head_seconds: float = Field(
        10.0, gt=0, description="Time for a client to send the whole head of a request"
    )
    http_body_seconds: float = Field(
        20.0, gt=0, description="Time for a client to send the whole body of a request"
    )
    http_idle_seconds: float = Field(
        75.0, gt=0, description="How long a connection is kept without a request"
    )
    http_write_seconds: float = Field(
        30.0, gt=0, description="Time for a client to read what it was sent"
    )
    lease_seconds: float = Field(
        10.0, ge=0.5, le=600, description="A lease not renewed for so long is free to take"
    )
    stream_replicas: int = Field(
        1,
        ge=1,
        le=5,
        description="JetStream replicas of each stream and bucket that is made; `bank replicas` "
        "changes those there are",
    )
    stream_max_age_hours: float = Field(
        0,
        ge=0,
        description="Events older than this leave the stream (never the store); 0 keeps all",
    )
    audit_max_lines: int = Field(
        100_000, ge=1, description="The audit log keeps so many lines of each action"
    )
    audit_max_age_days: float = Field(
        400, ge=0, description="Lines older than this leave the audit log; 0 keeps all"
    )
    index_shards: int = Field(1, ge=1, le=1024, description="Elasticsearch shards of a generation")
    index_replicas: int = Field(
        0, ge=0, le=10, description="Elasticsearch replicas of a generation"
    )
    index_grace_seconds: float = Field(
        5.0,
        ge=0,
        description="Time for people to make a vanished index by hand, before workers make it",
    )
    rebuild_rate: float = Field(
        0,
        ge=0,
        description="Events a second that a worker replays at most; 0: no limit",
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
    traces: Literal["off", "otlp"] = Field(
        "off", description="OpenTelemetry spans over OTLP, by the variables OTEL_…"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_application(cls, given: dict[str, Any]) -> dict[str, Any]:
        """With what the application says where nothing is set."""
        try:
            chosen = application(given.get("application") or BANK.application)
        except UnknownApplication:
            return given  # the field says so
        listed = " ".join(each.name for each in chosen.projections)
        return {"mongodb_database": chosen.names.database, "projections": listed, **given}

    @property
    def chosen(self) -> Application:
        """The application."""
        return application(self.application)

    @property
    def names(self) -> Names:
        """The application's names at the servers."""
        return self.chosen.names

    @property
    def kept(self) -> tuple[Projection, ...]:
        """The projections; the application's first one is the first, where it is kept."""
        return _kept(self.projections, self.application)

    def access(self, server: str) -> ServerAccess:
        """With the names and the replicas of what is made there, so that nobody who connects can
        forget them."""
        found = super().access(server)
        return replace(found, names=self.names, replicas=self.stream_replicas)


def require_projections(settings: Settings) -> None:
    """Raise `SettingsError` if the application has no projection: for roles that only keep or read
    some."""
    if not settings.kept:
        name = settings.names.application
        raise SettingsError(f"{PREFIX}APPLICATION: {name} has no projection to keep or to read")


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
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX)
    }
    empty, given = _parted(given)
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    values, faults = _read(given, {*known, *_files()})
    faults += empty
    try:
        settings = Settings(**{known[name]: value for name, value in values.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        faults += [f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
    else:
        faults += [f"{PREFIX}{n.upper()}: {why}" for n, why in credentials.faults(settings)]
        faults += _chosen_upcasters(settings.chosen)
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _chosen_upcasters(chosen: Application) -> list[str]:
    """Have the process go by the application's upcasters; the faults."""
    try:
        upcasters.choose(chosen.name, chosen.upcasters, chosen.kinds)
    except RuntimeError as error:
        return [f"{PREFIX}APPLICATION: {error}"]
    return []


def _parted(given: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The faults of variables that are set to nothing, and the variables that are set to something.

    Where nothing would mean less protection, or another server, it is a slip: a variable that was
    not filled in. Elsewhere it is the default.
    """
    values = {name: value for name, value in given.items() if value.strip()}
    faults = [
        f"{name}: it is set to nothing; leave it out, or set it"
        for name, value in given.items()
        if name not in values
        and (value or _protects(name))
        and name.removesuffix("_FILE") not in values
    ]
    return faults, values


def _protects(name: str) -> bool:
    field = Settings.model_fields.get(name.removeprefix(PREFIX).lower())
    secret = field is not None and field.annotation is SecretStr
    return secret or name.endswith(("_URL", "_USER", "_FILE", "KEYS", "HOST"))


def _files() -> dict[str, str]:
    """The variables that name a file with the value of another: those of secrets and of URLs."""
    names = [
        PREFIX + name.upper()
        for name, field in Settings.model_fields.items()
        if field.annotation is SecretStr or name.endswith("_url")
    ]
    return {f"{name}_FILE": name for name in names}


def _read(given: Mapping[str, str], known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The values, with those in files read, and the faults. The faults contain no value: it may be
    secret."""
    faults = [
        f"{name}: no such setting (`bank settings` lists all)"
        for name in given
        if name not in known
    ]
    values = {name: value for name, value in given.items() if name in known}
    for name, of in _files().items():
        if (file := values.pop(name, None)) is None:
            continue
        if of in values:
            faults.append(f"{name}: {of} is set as well; one of them is enough")
            continue
        try:
            value = Path(file).read_text().rstrip("\r\n")
            if value.strip():
                values[of] = value
            else:
                faults.append(f"{name}: the file is empty")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{name}: the file can't be read: {_why(error)}")
    return values, faults


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "it is not text"


def environment(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these very settings, and no file in their place."""
    texts = {
        PREFIX + name.upper(): _text(getattr(settings, name)) for name in Settings.model_fields
    }
    given = {name: text for name, text in texts.items() if text}
    return {file: "" for file, name in _files().items() if name in given} | given


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return "" if value is None else str(value)


def describe(settings: Settings) -> Iterator[Described]:
    """Each setting with its present value, default and meaning, in order of declaration."""
    for name, field in Settings.model_fields.items():
        yield Described(
            PREFIX + name.upper(),
            _shown(getattr(settings, name)),
            _text(field.default),
            field.description or "",
        )


def _shown(value: object) -> str:
    return str(value) if isinstance(value, SecretStr) else masked(_text(value))
