"""`bank rebuild`: starts or joins, follows, shows, calls off, and says what went wrong."""

import asyncio
import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import progress, rebuild_watch
from pipeline.cli.main import main
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream
from pipeline.support.settings import PREFIX, Settings, environment
from pipeline.tables.rebuild_job import Phase, RebuildJob
from tests.conftest import placed
from tests.harness import Role, eventually
from tests.ports import free_port
from tests.rebuilds import FINISHED, FakeWorker

T = TypeVar("T")
Start = Callable[..., Awaitable[Role]]

P = 8


def bank(settings: Settings, *words: str, **changes: str) -> Result:
    """Run `bank rebuild` in this process."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    environ = {**clean, **environment(settings), **changes}
    return CliRunner().invoke(main, ["rebuild", *words], env=environ)


def do(settings: Settings, use: Callable[[FakeWorker], Awaitable[T]]) -> T:
    """What a worker does meanwhile."""

    async def connected() -> T:
        js = await JetStream.connect(settings.nats_url, "test")
        try:
            return await use(FakeWorker(js))
        finally:
            await js.close()

    return asyncio.run(connected())


@contextmanager
def meanwhile(settings: Settings, use: Callable[[FakeWorker], Awaitable[object]]) -> Iterator[None]:
    """A worker at work beside a command, to its end."""
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(do, settings, use)
        yield
        done.result()


def last(settings: Settings) -> RebuildJob:
    return do(settings, lambda worker: worker.job())


def begun(settings: Settings, *words: str) -> RebuildJob:
    """Start one by the command."""
    started = bank(settings, *words, "--no-wait")
    assert started.exit_code == 0, started.output
    return last(settings)


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[FakeWorker]:
    js = await JetStream.connect(settings.nats_url, "test")
    yield FakeWorker(js)
    await js.close()


# ------------------------------------------------------------------------- starting and joining


def test_one_is_started_and_joined(settings: Settings) -> None:
    started = bank(settings)
    job = last(settings)
    assert (started.exit_code, started.stdout) == (0, f"{job.id}\n"), "no terminal: nobody waits"
    assert started.stderr == f"rebuild {job.id} (online) is started\n"
    assert (job.kind, job.partitions, job.concurrency) == ("online", tuple(range(P)), 1)
    joined = bank(settings, "--no-wait", "--json")
    assert joined.exit_code == 0
    assert (json.loads(joined.stdout)["id"], last(settings)) == (job.id, job)
    assert joined.stderr == f"rebuild {job.id} (online) runs already; joined\n"
    joined = bank(settings, "--max-concurrent", "3")
    assert "runs already, with --max-concurrent 1; joined" in joined.stderr


def test_what_is_asked_for(settings: Settings) -> None:
    started = bank(settings, "--partition", "5", "--partition", "2", "--max-concurrent", "2")
    job = last(settings)
    assert (job.kind, job.partitions, job.concurrency) == ("in-place", (2, 5), 2)
    assert lines(started.stderr) == [
        "single partitions are rebuilt in place",
        f"rebuild {job.id} (in place, partitions 2, 5) is started",
    ]
    do(settings, lambda worker: worker.turns("done"))
    started = bank(settings, "--in-place")
    job = last(settings)
    assert (job.kind, job.partitions) == ("in-place", tuple(range(P)))
    assert started.stderr == f"rebuild {job.id} (in place) is started\n"


def test_a_failed_one_goes_on(settings: Settings) -> None:
    job = begun(settings)
    do(settings, lambda worker: worker.turns("failed", reason="no disk", generation=2))
    again = bank(settings)
    assert (again.exit_code, again.stdout) == (0, f"{job.id}\n")
    assert "goes on where it was when it failed" in again.stderr


def test_another_one_runs(settings: Settings) -> None:
    job = begun(settings, "--partition", "3")
    failed = bank(settings)
    assert failed.exit_code == 1
    assert f"rebuild {job.id} (in place, partition 3) waits for a worker" in failed.stderr
    assert f"bank rebuild cancel {job.id}" in failed.stderr


def test_a_partition_that_is_not_there(settings: Settings) -> None:
    failed = bank(settings, "--partition", "1", "--partition", str(P))
    assert failed.exit_code == 1
    assert f"no partition {P}, only 0 to {P - 1}" in failed.stderr
    assert do(settings, everything) == []


async def everything(worker: FakeWorker) -> list[RebuildJob]:
    await worker.jobs.refresh()
    return worker.jobs.all()


@pytest.mark.parametrize(
    "words",
    [
        ["--partition", "-1"],
        ["--partition", "one"],
        ["--account", "01M84R485MRRW2CVHYB01DBWQ8", "--partition", "1"],
        ["--max-concurrent", "0"],
        ["--max-concurrent", "257"],
        ["status", "a", "b"],
        ["everything"],
    ],
)
def test_what_can_not_be_asked(settings: Settings, words: list[str]) -> None:
    assert bank(settings, *words).exit_code == 2
    assert do(settings, everything) == []


# --------------------------------------------------------------------- waiting until it is over


def test_to_wait_until_it_is_done(settings: Settings) -> None:
    async def works(worker: FakeWorker) -> None:
        await worker.wanted()
        await worker.carries_out(events=1000, pauses=(1.0, 4.25))

    with meanwhile(settings, works):
        done = bank(settings, "--wait")
    job = last(settings)
    assert done.exit_code == 0
    # Lines of its progress follow, if a look comes between two steps.
    assert lines(done.stderr)[0] == f"rebuild {job.id} (online) is started"
    assert lines(done.stdout) == [
        f"rebuild {job.id} (online) is done: 8 partitions, 8,000 events",
        "live traffic of a partition stood still 16 times: median 2.6 ms, longest 4.2 ms",
    ]


def test_in_place_it_tells_what_was_removed(settings: Settings) -> None:
    async def works(worker: FakeWorker) -> None:
        await worker.wanted()
        await worker.notes(1, state="done", done=5, total=5, removed=1234)
        await worker.turns("done")

    with meanwhile(settings, works):
        done = bank(settings, "--partition", "1", "--wait")
    assert done.exit_code == 0
    assert lines(done.stdout) == [
        f"rebuild {last(settings).id} (in place, partition 1) is done: 1 partition, 5 events",
        "documents of accounts that are not there, removed: 1,234",
        "live traffic never stood still",
    ]


@pytest.mark.parametrize(
    ("phase", "reason", "words"),
    [
        ("failed", "the index balance-2 was deleted", "failed: the index balance-2 was deleted"),
        ("cancelled", None, "was cancelled"),
    ],
)
def test_one_that_comes_to_nothing(
    settings: Settings, phase: Phase, reason: str | None, words: str
) -> None:
    async def ends(worker: FakeWorker) -> None:
        await worker.wanted()
        await worker.turns(phase, reason=reason, finished=FINISHED)

    with meanwhile(settings, ends):
        ended = bank(settings, "--wait")
    job = last(settings)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert f"bank: rebuild {job.id} (online) {words}\n" in ended.stderr
    assert ("goes on where it was" in ended.stderr) == (phase == "failed")
    ended = bank(settings, "status", "--wait", "--json")
    assert ended.exit_code == 1
    document = json.loads(ended.stdout)
    assert (document["id"], document["state"], document["reason"]) == (job.id, phase, reason)


def test_no_worker_carries_it_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(rebuild_watch, "QUIET_SECONDS", 0.6)
    monkeypatch.setattr(rebuild_watch.Bars, "print_line", lambda _, remark: said.append(remark))

    async def comes_late(worker: FakeWorker) -> None:
        await eventually(lambda: said == [rebuild_watch.WAITING])
        await worker.turns("building")
        await worker.notes(0, state="replaying", done=1, total=2)
        await eventually(lambda: said[1:] == [rebuild_watch.NO_NEWS])
        await worker.turns("swapped")
        await eventually(lambda: said[2:] == [rebuild_watch.SWAPPED])
        await worker.turns("done")

    with meanwhile(settings, comes_late):
        assert bank(settings, "--wait").exit_code == 0
    assert len(said) == 3, "each is said once"


def test_without_a_terminal_a_line_is_said_now_and_then(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "print_line", lambda _, line: said.append(line))

    async def goes_on(worker: FakeWorker) -> None:
        job = await worker.wanted()
        await worker.turns("building")
        notes = {"state": "replaying", "done": 2000, "total": 9000, "events_per_second": 100.0}
        await worker.notes(3, **notes)
        line = f"rebuild {job.id}: 2,000 of 9,000, 100 a second, 1:10 left"
        await eventually(lambda: said.count(line) > 1)
        await worker.carries_out()

    with meanwhile(settings, goes_on):
        assert bank(settings, "--wait").exit_code == 0


def test_one_that_is_forgotten_while_it_is_followed(settings: Settings) -> None:
    ids = []

    async def forgets(worker: FakeWorker) -> None:
        ids.append((await worker.wanted()).id)
        await worker.js.context.delete_key_value("rebuild")

    with meanwhile(settings, forgets):
        failed = bank(settings, "--wait")
    assert failed.exit_code == 1
    assert f"nobody knows of rebuild {ids[0]} any more" in failed.stderr


async def test_an_interrupt_leaves_it_running(role: Start, worker: FakeWorker) -> None:
    command = await role("bank", "rebuild", "--wait")
    job = await worker.wanted()
    await eventually(lambda: "is started" in command.log())
    await command.kill(signal.SIGINT)
    assert await command.wait() == 130
    assert (await worker.job()).active
    for words in ("goes on", f"bank rebuild status {job.id}", f"bank rebuild cancel {job.id}"):
        assert words in command.log()


async def test_nats_goes_and_comes(scratch: Path) -> None:
    embedded = EmbeddedServers(placed(scratch), ["nats"])
    await embedded.start()
    server = embedded.servers["nats"]
    js = await JetStream.connect(server.url, "test")
    worker = FakeWorker(js)
    try:
        async with Role(embedded.settings, "bank", "rebuild", "--wait") as command:
            await worker.wanted()
            await eventually(lambda: "is started" in command.log())
            await server.kill(signal.SIGKILL)
            await server.wait_dead()
            await eventually(lambda: "NATS does not answer" in command.log())
            await server.start()
            await eventually(worker.carries_out)
            assert await command.wait() == 0
    finally:
        await js.close()
        await embedded.stop()


async def test_in_a_terminal_there_is_a_bar_for_each_partition(
    settings: Settings, worker: FakeWorker
) -> None:
    """Both its stdout and its stderr are a terminal: it waits without being told."""
    screen, terminal = pty.openpty()
    command = await asyncio.create_subprocess_exec(
        *Role(settings, "bank", "rebuild").command,
        env={**Role(settings, "bank").environ, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = bytearray()
    loop = asyncio.get_running_loop()

    def read() -> None:  # all the time: a terminal that nobody reads stops who writes to it
        try:
            shown.extend(os.read(screen, 1 << 16))
        except OSError:  # its other end is closed
            loop.remove_reader(screen)

    def seen(words: str) -> bool:
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode(errors="replace"))
        return bool(re.search(words, text))

    loop.add_reader(screen, read)
    await worker.wanted()
    await worker.turns("building")
    await worker.notes(
        3, state="replaying", done=2000, total=9000, events_per_second=100.0, owner="[red]ann[/]"
    )
    await eventually(lambda: seen(r" 3 .* 2,000 of 9,000 +100/s +1:10 +replaying +\[red\]ann\[/\]"))
    await eventually(lambda: seen(r" all .* 2,000 of 9,000 +100/s +1:10 "))
    await worker.carries_out()
    assert await command.wait() == 0
    await eventually(lambda: seen("is done: 8 partitions, 80 events"))
    loop.remove_reader(screen)
    os.close(screen)


# --------------------------------------------------------------------- status, cancel and list


def test_the_status(settings: Settings) -> None:
    job = begun(settings)
    shown = bank(settings, "status")
    assert shown.exit_code == 0
    assert lines(shown.output)[:3] == [
        f"rebuild {job.id} (online) waits for a worker",
        "partition state done total events/s left pauses ms owner",
        "0 waiting 0 0 0",
    ]

    async def works(worker: FakeWorker) -> None:
        await worker.turns("building")
        await worker.notes(0, state="replayed", done=7, total=7, pauses_ms=[0.0256, 3.0])
        await worker.notes(
            1, state="replaying", done=1000, total=3000, events_per_second=20.0, owner="[b]"
        )

    do(settings, works)
    shown = bank(settings, "status", job.id)
    assert lines(shown.output)[:4] == [
        f"rebuild {job.id} (online) is under way",
        "partition state done total events/s left pauses ms owner",
        "0 replayed 7 7 0 0:00 0.026 3.0 ann",
        "1 replaying 1,000 3,000 20 1:40 [b]",
    ]
    document = json.loads(bank(settings, "status", "--json").stdout)
    assert (document["id"], document["done"], document["total"]) == (job.id, 1007, 3007)
    assert document["partitions"][1]["seconds_left"] == 100.0


def test_the_status_until_it_is_over(settings: Settings) -> None:
    job = begun(settings)
    with meanwhile(settings, lambda worker: worker.carries_out()):
        done = bank(settings, "status", job.id, "--wait")
    assert done.exit_code == 0
    assert f"rebuild {job.id} (online) is done" in done.stdout
    assert bank(settings, "status", "--wait").stdout == done.stdout


def test_cancel(settings: Settings) -> None:
    job = begun(settings)
    for words in (["cancel"], ["cancel", job.id]):
        cancelled = bank(settings, *words)
        assert (cancelled.exit_code, cancelled.output) == (
            0,
            f"rebuild {job.id} (online) was cancelled\n",
        )
    assert last(settings).phase == "cancelled"


@pytest.mark.parametrize(
    ("phase", "words"),
    [("swapped", "readers see the new generation"), ("done", "is done"), ("failed", "no disk")],
)
def test_it_is_too_late_to_cancel(settings: Settings, phase: Phase, words: str) -> None:
    begun(settings)
    reason = "no disk" if phase == "failed" else None
    do(settings, lambda worker: worker.turns(phase, reason=reason))
    failed = bank(settings, "cancel")
    assert failed.exit_code == 1
    assert words in failed.stderr
    assert "can't be called off" in failed.stderr
    assert last(settings).phase == phase


def test_the_list(settings: Settings) -> None:
    assert bank(settings, "list").output == "nothing was ever rebuilt\n"
    assert json.loads(bank(settings, "list", "--json").stdout) == []
    first = begun(settings)
    do(settings, lambda worker: worker.turns("failed", reason="[red]no disk", finished=FINISHED))
    second = begun(settings, "--partition", "4")
    assert lines(bank(settings, "list").output) == [
        "id what state started finished reason",
        f"{second.id} in place, partition 4 wanted {second.started}",
        f"{first.id} online failed {first.started} {FINISHED} [red]no disk",
    ]
    listed = json.loads(bank(settings, "list", "--json").stdout)
    assert [each["id"] for each in listed] == [second.id, first.id]


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_one_that_is_not_there(settings: Settings, command: str) -> None:
    failed = bank(settings, command)
    assert (failed.exit_code, failed.stderr) == (1, "bank: nothing was ever rebuilt\n")
    job = begun(settings)
    failed = bank(settings, command, "*")
    assert failed.exit_code == 1
    assert "there is no rebuild *" in failed.stderr
    assert last(settings) == job


@pytest.mark.parametrize("words", [[], ["--wait"], ["status"], ["cancel"], ["list"]])
def test_a_server_that_does_not_answer_is_named(
    settings: Settings, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.connections._SECONDS", 0.5)
    nowhere = f"nats://127.0.0.1:{free_port()}"
    failed = bank(settings, *words, BANK_NATS_URL=nowhere)
    assert failed.exit_code == 1
    assert f"NATS at {nowhere}: no answer in time" in failed.stderr
