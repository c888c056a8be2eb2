"""Connects nats-py's client with the credentials and the TLS that the settings name."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nkeys
from nats.errors import Error

from pipeline.messaging.fast_path import FastPathClient
from pipeline.support.access import ServerAccess
from pipeline.support.credentials import Malformed, creds


async def connect(at: ServerAccess | str, **options: Any) -> FastPathClient:
    """Connect. `options` are nats-py's, such as how often to try."""
    access = ServerAccess.of(at)
    client = FastPathClient(tls=access.scheme == "tls")
    await client.connect(access.urls, **_identity(access), **options)
    return client


def _identity(access: ServerAccess) -> dict[str, Any]:
    # nats-py takes what is in a URL for that host alone, and not for those of the same cluster that
    # the host tells it.
    url = urlsplit(access.urls[0])
    named, token = (url.username, "") if url.password is not None else ("", url.username)
    options: dict[str, Any] = {
        "user": access.user or named,
        "password": access.password or url.password,
        "token": access.token or token,
        "nkeys_seed_str": access.nkey,
    }
    if access.tls:
        options["tls"] = access.context()
    if (file := access.creds_file) is not None:
        # Read at each connection, so that a renewed file counts. nats-py's own reader loops for
        # ever on a file that was cut short.
        options["user_jwt_cb"] = lambda: _read(file)[0].encode()
        options["signature_cb"] = lambda nonce: _signed(_read(file)[1], nonce)
    return {name: value for name, value in options.items() if value}


def _read(file: Path) -> tuple[str, str]:
    try:
        return creds(file)
    except Malformed as error:
        raise Error(f"nats: {error}") from error


def _signed(seed: str, nonce: str) -> bytes:
    return base64.b64encode(nkeys.from_seed(bytearray(seed, "ascii")).sign(nonce.encode()))
