"""Checks before a server is started: its URL is on this machine, its port and disk are usable."""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from pipeline.embedded.process_reaper import GRACE
from pipeline.embedded.process_registry import alive
from pipeline.support.access import ServerAccess
from pipeline.support.private_files import private_file, private_folder
from pipeline.support.settings import PREFIX

ADVICE = f"Make room or rights for it, or set {PREFIX}DATA_DIR to another folder"
_PROBE_BYTES = 1 << 20


class EmbeddedError(Exception):
    """The message names the server, what is wrong, and what to do."""


def variable(name: str) -> str:
    """The setting with a server's URL."""
    return f"{PREFIX}{name.upper()}_URL"


def placed_here(name: str, at: ServerAccess, scheme: str) -> bool:
    """Whether a server's URL is on this machine; EmbeddedError for one that we can't start."""
    parts = urlsplit(at.url)
    hosts = parts.netloc.rpartition("@")[2]
    if "," in hosts or "sentinel" in parts.scheme or not _loopback(parts.hostname or ""):
        return False
    if parts.scheme != scheme:
        raise EmbeddedError(f"{variable(name)}: an embedded {name} can only be {scheme}://…")
    if parts.username or parts.password or at.guarded:
        raise EmbeddedError(
            f"{variable(name)}: an embedded {name} has no users and no passwords, nor certificates"
        )
    return True


def port_taken(host: str, port: int) -> bool:
    """Whether another process listens there, or this one may not."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as caller:
        caller.settimeout(1)
        if caller.connect_ex(address) == 0:
            return True
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            return error.errno in (errno.EADDRINUSE, errno.EACCES)
    return False


def free_ports(host: str) -> Iterator[int]:
    """Free ports, below the range that the system uses for outgoing connections."""
    for port in random.SystemRandom().sample(range(15_000, 20_000), 1000):
        if not port_taken(host, port):
            yield port


def check_disk(data_dir: Path) -> None:
    """Raise EmbeddedError if the data folder can't be written: full, read-only or not ours."""
    probe = data_dir / "probe"
    try:
        private_folder(data_dir)
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        why = error.strerror or str(error)
        raise EmbeddedError(
            f"can't write in the data folder {data_dir}: {why}. {ADVICE}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


async def own_folder(data_dir: Path) -> IO[str]:
    """Lock a data folder until the returned file is closed.

    Raises EmbeddedError if another process owns it. If the owner was killed, its process reaper
    keeps the lock until the owner's servers have ended; this function waits for that.
    """
    lock = private_file(data_dir / "lock").open("a+")
    try:
        await _locked(lock, data_dir)
    except BaseException:
        lock.close()
        raise
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


async def _locked(lock: IO[str], data_dir: Path) -> None:
    deadline = time.monotonic() + 3 * GRACE
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.seek(0)
        owner = lock.read()
        if (owner.isdigit() and alive(int(owner))) or time.monotonic() > deadline:
            raise EmbeddedError(
                f"the servers of the data folder {data_dir} run already (process {owner}). "
                f"Use or stop those, or set {PREFIX}DATA_DIR and the URLs to others"
            )
        await asyncio.sleep(0.1)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
