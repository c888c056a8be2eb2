"""`bank demo`: starts a bank, sends it commands, waits for the projection, checks the invariants.

It uses a new folder and free ports, so that it does not affect a bank that runs already.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.commands import connect
from pipeline.embedded.log_lines import LogLines, RoleStream
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.startup_checks import free_ports
from pipeline.embedded.traffic import Traffic, session
from pipeline.embedded.up import accounts_url, running
from pipeline.operations.checker.history import Answer, Command
from pipeline.operations.checker.live import Stores, check_stores, opened
from pipeline.operations.checker.report import Report
from pipeline.support import logs
from pipeline.support.access import AccessSettings
from pipeline.support.settings import Settings

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, the number that is done, and the total."""

_SLOWEST_PROJECTION: Final = 50
"""Events per second, from which the deadline of the projection is computed."""
_LATEST_EXPIRY: Final = 60.0
"""Seconds after the last command by which every short hold has expired."""


@dataclass(slots=True)
class Result:
    """The outcome of a demo: counts, seconds and the checker's report."""

    commands: int = 0
    acknowledged: int = 0
    rejected: int = 0
    unanswered: int = 0
    sending_seconds: float = 0.0
    events: int = 0
    forwarded: int = 0
    projected: int = 0
    projecting_seconds: float = 0.0
    lag: int = 0
    surprises: list[str] = field(default_factory=list)
    report: Report | None = None
    folder: Path | None = None

    @property
    def holds(self) -> bool:
        """Whether all events are projected, all answers were expected and all invariants hold."""
        judged = self.report is not None and all(v.holds for v in self.report.verdicts)
        return judged and not self.lag and not self.surprises


async def demo(
    base: Settings, *, accounts: int, commands: int, seed: int, progress: Progress
) -> Result:
    """Run the demo with the settings `base`, but in a new folder, on free ports, without keys.

    It removes the folder if `Result.holds`, and otherwise keeps it for its logs.
    """
    result, settings = Result(), scratch(base)
    result.folder = settings.data_dir
    try:
        with (settings.data_dir / "demo.log").open("w") as file:
            lines = LogLines(file, prefix=base.log_format == "text")
            logs.setup(settings, "demo", RoleStream("demo", lines))
            progress("starting", 0, 1)
            async with running(settings, lines):
                progress("starting", 1, 1)
                await _load(settings, result, accounts, commands, seed, progress)
                progress("stopping", 0, 1)
            progress("stopping", 1, 1)
    except Exception as error:
        error.add_note(f"The logs are in {settings.data_dir}")
        raise
    if result.holds:
        shutil.rmtree(settings.data_dir, ignore_errors=True)
    return result


async def _load(
    settings: Settings, result: Result, accounts: int, commands: int, seed: int, progress: Progress
) -> None:
    async with session(accounts_url(settings)) as http, opened(settings) as stores:
        traffic = Traffic(http, seed)
        with _counted(traffic, progress, "opening accounts", accounts):
            await traffic.open_accounts(accounts)
        began, before = time.monotonic(), len(traffic.history)
        with _counted(traffic, progress, "sending commands", commands):
            await traffic.send_commands(commands)
        result.sending_seconds = time.monotonic() - began
        _count(traffic, result, before)
        await _expired(traffic, progress)
        await _forget(settings, traffic)
        await _projected(stores, traffic.accounts, result, progress)
        result.projecting_seconds = time.monotonic() - began
        result.forwarded = await stores.forwarded()
        progress("checking", 0, 1)
        history = [*traffic.history, *traffic.repeats]
        result.report = await check_stores(stores, history=history, alone=True)
        progress("checking", 1, 1)


async def _forget(settings: Settings, traffic: Traffic) -> None:
    """Have the owner of the busiest account forgotten."""
    account_id = traffic.accounts[0]
    async with connect(settings.chosen, settings) as bank:
        done = await bank.forget("account", account_id)
    traffic.history.append(Answer(Command("forget", account_id), 200, account_id, done.version))


@contextmanager
def _counted(traffic: Traffic, progress: Progress, what: str, total: int) -> Iterator[None]:
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(what, done, total)

    progress(what, 0, total)
    traffic.on_answer = one_more
    yield


def _count(traffic: Traffic, result: Result, before: int) -> None:
    sent = traffic.history[before:]
    result.commands = len(sent)
    result.acknowledged = sum(answer.acknowledged for answer in sent)
    result.rejected = sum(answer.rejected for answer in sent)
    result.unanswered = result.commands - result.acknowledged - result.rejected
    result.surprises = traffic.surprises


async def _expired(traffic: Traffic, progress: Progress) -> None:
    """Wait until the holds that were left to their time have ended by themselves."""
    total, deadline = len(traffic.expiring), time.monotonic() + _LATEST_EXPIRY
    while not await traffic.see_expired() and time.monotonic() < deadline:
        progress("waiting for holds", total - len(traffic.expiring), total)
        await asyncio.sleep(0.2)
    progress("waiting for holds", total - len(traffic.expiring), total)
    for hold, account in traffic.expiring.items():
        traffic.surprises.append(f"hold {hold} of account {account} did not expire")


async def _projected(
    stores: Stores, accounts: list[str], result: Result, progress: Progress
) -> None:
    """Wait until the versions of all documents add up to the number of events in the store."""
    result.events = await stores.store.count()
    deadline = time.monotonic() + 60 + result.events / _SLOWEST_PROJECTION
    while True:
        documents = await stores.projection.documents(accounts)
        result.projected = sum(int(document["version"]) for document in documents.values())
        result.lag = result.events - result.projected
        progress("projecting", result.projected, result.events)
        if not result.lag or time.monotonic() > deadline:
            return
        await asyncio.sleep(0.2)


def scratch(base: Settings) -> Settings:
    """Settings for a bank in a new folder and on free ports."""
    folder = Path(tempfile.mkdtemp(prefix="bank-demo-"))
    ports = free_ports("127.0.0.1")
    # Credentials are for other servers: the scratch bank's own have none.
    plain = {name: field.default for name, field in AccessSettings.model_fields.items()}
    urls = {
        f"{name}_url": f"{w.scheme}://127.0.0.1:{next(ports)}"
        for name, w in SERVER_BINARIES.items()
    }
    services = {"host": "127.0.0.1", "accounts_port": next(ports), "balances_port": next(ports)}
    return base.model_copy(update={"data_dir": folder, "keys": "off", **plain, **urls, **services})
