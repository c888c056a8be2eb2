"""Listens on an address, or names the setting to change."""

import errno
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from aiohttp import hdrs, web

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


class AllowedHosts:
    """The names by which clients may call a role that asks for no keys: `localhost`, addresses, and
    those of the settings. Another site's name may lead here too (DNS rebinding): its pages could
    then do all that a program on this machine can."""

    WHY: Final = f"Call it localhost or by its address, or set {PREFIX}ALLOWED_HOSTS to that name."

    def __init__(self, settings: Settings) -> None:
        names = ["localhost", settings.host, *settings.allowed_hosts.split()]
        any_of = "|".join(re.escape(each) for each in names)
        form = rf"({any_of}|\[[0-9a-f:.]+\]|[0-9.]+)?(:[0-9]+)?"
        self._form = re.compile(form, re.IGNORECASE)

    def admit(self, request: web.BaseRequest) -> bool:
        """Whether the request names one of them, in its headers and in its target."""
        named = request.headers.getall(hdrs.HOST, ())
        # Of a target like http://name/path, aiohttp takes the host from there.
        return not named or all(map(self._form.fullmatch, {*named, request.host}))


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
