"""Listening on an address, or telling which setting to change."""

import errno
from typing import Final

from aiohttp import web

from pipeline.settings import PREFIX

_NOT_OURS: Final = {errno.EADDRINUSE: "the port is taken", errno.EACCES: "the port is not allowed"}


class CannotListen(Exception):
    """The address can't be listened on; the message names the setting to change."""


async def listen(runner: web.AppRunner, host: str, port: int, who: str, setting: str) -> str:
    """Accept connections; returns the address as a URL. `setting` is the one of the port."""
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
