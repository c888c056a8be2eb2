"""A whole application for tests: embedded servers on free ports, and its roles on them.

The fixtures of `fixtures.py` are these; without pytest they serve as well.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import aiohttp

from pipeline.application import GROUP, Application, application
from pipeline.commands import Connection
from pipeline.coordination import driver as redis
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.embedded.startup_checks import free_ports
from pipeline.embedded.up import balances_url, running
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.search import client as elasticsearch
from pipeline.support.settings import PREFIX, Settings

SECONDS: Final = 120.0
"""How long a test waits for a document."""

_HOST: Final = "127.0.0.1"
_ASKED: Final = 5.0
"""Seconds for which one request waits for a document's version at most."""
_PAUSE: Final = 0.05


class Bank(Connection):
    """The application's write side, and what its projections show. `settings`: those it runs by."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.chosen, EventStore(settings.mongodb, settings.mongodb_database))
        self.settings = settings

    async def document(
        self, projection: str, document_id: str, version: int = 1, *, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """The document as soon as it has that version or a newer one.

        Raises `AssertionError` with what there is instead after so many `seconds`.
        """
        __tracebackhide__ = True
        path = f"/projections/{projection}/{document_id}"
        asked = {"min_version": version, "timeout": min(_ASKED, seconds)}
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession(balances_url(self.settings)) as http:
            while True:
                async with http.get(path, params=asked) as answer:
                    found: dict[str, Any] = await answer.json(content_type=None)
                if answer.status == 200 and "stale" not in found:
                    return found
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"{projection} does not show version {version} of {document_id} "
                        f"within {seconds:g} s, but {found}"
                    )
                await asyncio.sleep(_PAUSE)


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Embedded servers, with their data in a folder that is removed at the end; yields their URLs
    by the name of the setting. Raises `EmbeddedError`, which says what is missing."""
    folder, ports = _folder(), free_ports(_HOST)
    urls = {
        f"{name}_url": f"{binary.scheme}://{_HOST}:{next(ports)}"
        for name, binary in SERVER_BINARIES.items()
    }
    embedded = EmbeddedServers(_settings(data_dir=folder, **urls))
    asyncio.run(embedded.start())
    try:
        yield urls
    finally:
        asyncio.run(embedded.stop())
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def settings_on(urls: dict[str, str], of: Application | str) -> Iterator[Settings]:
    """Settings of an application on these servers, where nothing of it is left of what was before.

    So never give it servers on which the application is at work.
    """
    folder, ports = _folder(), free_ports(_HOST)
    settings = _settings(
        application=name_of(of),
        data_dir=folder,
        mongodb_database=folder.name,
        accounts_port=next(ports),
        balances_port=next(ports),
        partitions=2,
        **urls,
    )
    asyncio.run(_wipe(settings))
    try:
        yield settings
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running_bank(settings: Settings) -> AsyncIterator[Bank]:
    """Run the application's roles, each as a process, and connect to its event store."""
    # What this process can import, such as the application, its children can.
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with patch.dict(os.environ, path):
        async with running(settings, _show, without=tuple(SERVER_BINARIES)):
            bank = Bank(settings)
            try:
                await bank.opened(SECONDS)
                async with bank.watched():
                    yield bank
            finally:
                await bank.close()


def name_of(of: Application | str) -> str:
    """What `BANK_APPLICATION` has to say. Raises `LookupError` for a value that nobody could
    import."""
    if isinstance(of, str):
        return of
    declared = [each.name for each in entry_points(group=GROUP) if each.name == of.name]
    if any(application(name) is of for name in declared):
        return of.name
    places = [
        f"{module}:{name}"
        for module, found in list(sys.modules.items())
        for name, value in list(getattr(found, "__dict__", {}).items())
        if value is of
    ]
    if not places:
        raise LookupError(f"{of.name}: no module has this application as a global")
    # Tests import it, but their modules can't always be imported by the roles.
    return min(places, key=lambda place: ("test" in place, len(place)))


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="bank-"))


def _settings(**given: Any) -> Settings:
    """Settings, of which the environment is no part."""
    with patch.dict(os.environ):
        for name in [each for each in os.environ if each.startswith(PREFIX)]:
            del os.environ[name]
        return Settings.model_validate(given)


async def _wipe(settings: Settings) -> None:
    """Leave nothing of the application on NATS, Redis and Elasticsearch; its database is a new one.

    What others have there stays: the servers need not be those of the tests.
    """
    names = settings.names
    js = await JetStream.connect(settings.nats, "testing")
    for stream in filter(names.owns_stream, (await js.api("STREAM.NAMES"))["streams"] or ()):
        await js.api(f"STREAM.DELETE.{stream}")
    await js.close()
    async with redis.client(settings.redis) as leases:
        async for key in leases.scan_iter(f"{names.application}:*"):
            await leases.delete(key)
    aliases = [names.checkpoints, *(each.alias for each in settings.kept)]
    async with elasticsearch.connect(settings.elasticsearch) as elastic:
        for index in await elastic.indices.get_alias():
            if any(f"{index}-".startswith(f"{each}-") for each in aliases):
                await elastic.indices.delete(index=index)


def _show(role: str, line: str) -> None:
    """To where pytest captures it, and shows it with a test that fails."""
    sys.stdout.write(f"{role}: {line}\n")
