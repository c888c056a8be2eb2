"""Listens on an address, or names the setting to change."""

import re
import socket
from typing import Final

from aiohttp import hdrs, web

from pipeline.support.addresses import cannot_listen, url
from pipeline.support.process_group import Member
from pipeline.support.settings import PREFIX, Settings
from pipeline.support.shared_site import SharedSite


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
        named = request.headers.getall(hdrs.HOST, [])
        # Of a target like http://name/path, aiohttp takes the host from there.
        return not named or all(map(self._form.fullmatch, [*named, request.host]))


async def listen(runner: web.AppRunner, host: str, port: int, who: str, setting: str) -> str:
    """Accept connections; returns the address as a URL. `setting` is the port's.

    A process of a group accepts from the sockets of its parent, which has bound the port.
    """
    member = Member.of_this_process()
    if member is not None:
        return url(host, await _accept_beside_others(runner, member))
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise cannot_listen(error, host, port, who, setting) from error
    return url(host, runner.addresses[-1][1])


async def _accept_beside_others(runner: web.AppRunner, member: Member) -> int:
    """Accept from the parent's sockets; returns their port."""
    port = 0
    for descriptor in member.listeners:
        listener = socket.socket(fileno=descriptor)
        port = listener.getsockname()[1]
        await SharedSite(runner, listener, member).start()
    return port
