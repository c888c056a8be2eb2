"""Addresses that roles listen on: who may reach them, and sockets that are bound to them."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Final

from pipeline.support.settings import PREFIX, Settings

_NOT_OURS: Final = {errno.EADDRINUSE: "the port is taken", errno.EACCES: "the port is not allowed"}


class CannotListen(Exception):
    """The address can't be listened on; the message names the setting to change."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address. Of names, only `localhost` counts."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def check_guarded(settings: Settings) -> None:
    """Raise `CannotListen` if other machines could use the services without a key."""
    if settings.keys == "off" and not is_loopback(settings.host):
        raise CannotListen(
            f"{PREFIX}HOST={settings.host} lets other machines in, and {PREFIX}KEYS is off: whoever"
            f" comes could move any money. Set {PREFIX}KEYS=on and make keys (`bank keys create`),"
            f" or, if nobody comes, {PREFIX}KEYS=off-although-others-can-reach-it."
        )


def bound(host: str, port: int, who: str, setting: str) -> list[socket.socket]:
    """Sockets that listen there, one for each address of the host. Raises `CannotListen`."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            # A kernel without IPv6 may have a `localhost` with an address of it.
            with _unless(errno.EAFNOSUPPORT):
                sockets.append(socket.create_server(address[:2], family=family, backlog=128))
        if not sockets:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    except OSError as error:
        for each in sockets:
            each.close()
        raise cannot_listen(error, host, port, who, setting) from error
    return sockets


@contextmanager
def _unless(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


def cannot_listen(error: OSError, host: str, port: int, who: str, setting: str) -> CannotListen:
    """What to tell people of the error. `setting` is the port's."""
    reason = _NOT_OURS.get(error.errno or 0)
    at_fault = setting if reason else "host"
    return CannotListen(
        f"{who} can't listen on {host}:{port}: {reason or error.strerror}. "
        f"Set {PREFIX}{at_fault.upper()} to another one."
    )


def url(host: str, port: int) -> str:
    """The URL of an address; one of IPv6 in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def reachable(host: str) -> str:
    """The host at which to connect to a service that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
