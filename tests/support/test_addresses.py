"""The sockets of an address, bound before there is a process that serves them."""

import errno
import socket
from typing import Any

import pytest

from pipeline.support.addresses import CannotListen, bound

_BOTH = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


@pytest.mark.parametrize(("found", "number"), [(_BOTH, 1), (_BOTH[:1], 0)])
def test_a_family_that_the_kernel_lacks_is_left_out(
    found: list[Any], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = socket.create_server

    def without_ipv6(address: Any, *, family: int, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_server", without_ipv6)
    if not number:
        with pytest.raises(CannotListen, match="BANK_HOST"):
            bound("localhost", 0, "The worker", "metrics_port")
        return
    sockets = bound("localhost", 0, "The worker", "metrics_port")
    assert len(sockets) == number
    for each in sockets:
        each.close()


def test_a_port_that_is_taken_is_told() -> None:
    (first,) = bound("127.0.0.1", 0, "The worker", "metrics_port")
    with first, pytest.raises(CannotListen, match="BANK_METRICS_PORT"):
        bound("127.0.0.1", first.getsockname()[1], "The worker", "metrics_port")
