"""Checks at start whether the access settings are complete and their files usable.

Messages name settings and never show a value: it may be a secret in the wrong place.
"""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from pipeline.support import url_options
from pipeline.support.access import PREFIX, SERVERS, AccessSettings, ServerAccess

Fault = tuple[str, str]
"""The field of a setting, and what is wrong with it."""

_SEED: Final = re.compile(r"SU[A-Z2-7]{56}")
_CREDS: Final = re.compile(
    r"-BEGIN NATS USER JWT-+\s+(?P<jwt>[\w.-]+)\s"
    r".*-BEGIN USER NKEY SEED-+\s+(?P<seed>SU[A-Z2-7]{56})\s",
    re.DOTALL,
)


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


class Malformed(Exception):
    """A file is not what it should be; the message shows none of its content."""


def creds(file: Path) -> tuple[str, str]:
    """The JWT and the seed of a NATS credentials file. Raises OSError, `Malformed`."""
    found = _CREDS.search(file.read_text(errors="replace"))
    if found is None:
        raise Malformed("not a credentials file of NATS: no user's JWT and seed in it")
    return found["jwt"], found["seed"]


def faults(settings: AccessSettings) -> Iterator[Fault]:
    """What is wrong, setting by setting."""
    for server in SERVERS:
        access = settings.access(server)
        yield from _identity(server, access)
        unreadable = dict(_unreadable(server, access))
        yield from unreadable.items()
        if not unreadable:
            yield from _tls(server, access)
    if settings.nats.creds_file is not None:
        try:
            creds(settings.nats.creds_file)
        except Malformed as error:
            yield "nats_creds_file", str(error)
        except OSError:
            pass  # `_unreadable` reports it


def _identity(server: str, access: ServerAccess) -> Iterator[Fault]:
    """Credentials of more than one kind, or of half a kind."""
    in_query = {"username", "password"} & url_options.names(access.url)
    with_url = bool(urlsplit(access.urls[0]).netloc.rpartition("@")[0] or in_query)
    token = "elasticsearch_api_key" if server == "elasticsearch" else f"{server}_token"
    kinds = {
        f"{server}_url": with_url,
        f"{server}_password": bool(access.user or access.password),
        token: bool(access.token),
        f"{server}_nkey": bool(access.nkey),
        f"{server}_creds_file": access.creds_file is not None,
    }
    given = [name for name, is_set in kinds.items() if is_set]
    if len(given) > 1:
        yield given[-1], f"says who we are, and so does {variable(given[0])}: one of them is enough"
    if access.user and not access.password:
        yield f"{server}_password", "is missing for the user"
    if access.password and not access.user and server != "redis":
        yield f"{server}_user", "is missing for the password"
    if access.nkey and not _SEED.fullmatch(access.nkey):
        yield f"{server}_nkey", "not a user's seed: SU and 56 letters and digits more"


def _unreadable(server: str, access: ServerAccess) -> Iterator[Fault]:
    for name in ("creds_file", "ca_file", "cert_file", "key_file"):
        file: Path | None = getattr(access, name)
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            yield f"{server}_{name}", f"the file can't be read: {error.strerror}"


def _tls(server: str, access: ServerAccess) -> Iterator[Fault]:
    if access.key_file and not access.cert_file:
        yield f"{server}_cert_file", "is missing for the private key"
    named = [name for name in ("ca_file", "cert_file") if getattr(access, name)]
    if not named:
        return
    if not _asks_for_tls(server, access):
        yield (
            f"{server}_{named[0]}",
            f"is of no use without TLS: {variable(f'{server}_url')} does not ask for it",
        )
    try:
        ServerAccess(access.url, ca_file=access.ca_file).context()
    except ssl.SSLError:
        yield f"{server}_ca_file", "no certificates of CAs in it"
    try:
        ServerAccess(access.url, cert_file=access.cert_file, key_file=access.key_file).context()
    except ssl.SSLError as error:
        name = "key_file" if access.key_file else "cert_file"
        why = (error.reason or "it does not parse").replace("_", " ").lower()
        yield f"{server}_{name}", f"no certificate and unlocked key that belong together: {why}"


def _asks_for_tls(server: str, access: ServerAccess) -> bool:
    """MongoDB's driver speaks TLS when a file of it is named, unless the URL says no."""
    if server != "mongodb":
        return access.tls
    query = parse_qs(urlsplit(access.url).query.lower())
    return query.get("tls", query.get("ssl", ["true"])) == ["true"]
