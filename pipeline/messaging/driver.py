"""The client of NATS, which comes back after it was refused, and never goes on without TLS."""

import base64
import ssl
from pathlib import Path
from typing import Any, Final

import nkeys
from nats.aio.client import Srv
from nats.aio.transport import TcpTransport
from nats.errors import AuthorizationError, Error

from pipeline.messaging.fast_path import FastPathClient
from pipeline.support.access import ServerAccess
from pipeline.support.credentials import Malformed, creds

_REFUSED: Final = ("authorization violation", "user authentication")


async def connect(at: ServerAccess | str, **options: Any) -> FastPathClient:
    """Connect. `options` are the driver's, and say how patiently."""
    access = ServerAccess.of(at)
    client = _Client(tls=access.scheme == "tls")
    await client.connect(access.url, **_identity(access), **options)
    return client


class _Client(FastPathClient):
    """What the driver does not do by itself."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self._must_be_tls = tls

    async def _connect_to_server(self, s: Srv) -> None:
        """Drop the connection of a try that failed, which the driver leaves open."""
        if isinstance(self._transport, TcpTransport) and self._transport._io_writer:
            self._transport._io_writer.transport.abort()
        await super()._connect_to_server(s)

    def _connect_command(self) -> bytes:
        """What says who we are. The driver would send it in the clear to one who wants no TLS."""
        if self._must_be_tls and not self._server_info.get("tls_required"):
            raise ssl.SSLError("the server offers no TLS")
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        """The driver closes for good when it is refused in the midst of a connection."""
        if any(words in err_msg.lower() for words in _REFUSED):
            await self._process_op_err(AuthorizationError())
        else:
            await super()._process_err(err_msg)


def _identity(access: ServerAccess) -> dict[str, Any]:
    told: dict[str, Any] = {
        "user": access.user,
        "password": access.password,
        "token": access.token,
        "nkeys_seed_str": access.nkey,
    }
    if access.tls:
        told["tls"] = access.context()
    if (file := access.creds_file) is not None:
        # Read for each connection, so that a renewed file counts; the driver's own reader never
        # ends on a file that was cut short.
        told["user_jwt_cb"] = lambda: _read(file)[0].encode()
        told["signature_cb"] = lambda nonce: _signed(_read(file)[1], nonce)
    return {name: value for name, value in told.items() if value}


def _read(file: Path) -> tuple[str, str]:
    try:
        return creds(file)
    except Malformed as error:
        raise Error(f"nats: {error}") from error


def _signed(seed: str, nonce: str) -> bytes:
    return base64.b64encode(nkeys.from_seed(bytearray(seed, "ascii")).sign(nonce.encode()))
