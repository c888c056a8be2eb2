"""Listens on an address, or names the setting to change."""

import errno
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from aiohttp import web

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


async def listen(runner: web.AppRunner, host: str, port: int, who: str, setting: str) -> str:
    """Accept connections; returns the address as a URL. `setting` is the port's."""
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        reason = _NOT_OURS.get(error.errno or 0)
        at_fault = setting if reason else "host"
        raise CannotListen(
            f"{who} can't listen on {host}:{port}: {reason or error.strerror}. "
            f"Set {PREFIX}{at_fault.upper()} to another one."
        ) from error
    return url(host, runner.addresses[-1][1])


def url(host: str, port: int) -> str:
    """The URL of an address; one of IPv6 in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
