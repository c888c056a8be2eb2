"""Child processes: their output, their end, their entry in processes.json, and their reaper."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.embedded import processes
from pipeline.embedded.process_reaper import GRACE
from pipeline.embedded.process_registry import (
    FILE,
    Process,
    alive,
    read_processes,
    register,
    unregister,
)
from pipeline.embedded.processes import Children
from tests.harness import eventually

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
)
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator[Children]:
    family = Children(tmp_path)
    yield family
    await family.close()


async def test_lines_go_to_the_callback_and_the_exit_code_is_kept(children: Children) -> None:
    heard: list[str] = []
    program = "import sys; print('out'); print('err é', file=sys.stderr); sys.exit(7)"
    child = children.start(
        "role",
        [sys.executable, "-c", program],
        env={"PYTHONIOENCODING": "utf-8"},
        on_line=heard.append,
    )
    assert await child.wait() == 7
    await children.stop(child)
    assert sorted(heard) == ["err é", "out"]


@pytest.mark.parametrize("told", [True, False])
async def test_its_end_is_seen_whether_or_not_the_system_tells_it(
    children: Children, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    if told:
        monkeypatch.setattr(processes, "_POLL_SECONDS", 3600)  # so nobody asks for it
    else:
        monkeypatch.delattr(os, "pidfd_open")
    child = children.start("role", [sys.executable, "-c", "import time; time.sleep(0.3)"])
    async with asyncio.timeout(60):
        assert await child.wait() == 0
        assert await child.wait() == 0


async def test_output_is_added_to_the_log(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "role.log"
    for word in ("one", "two"):
        await children.start("role", [sys.executable, "-c", f"print('{word}')"], log=log).wait()
    assert log.read_text() == "one\ntwo\n"


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


async def test_a_child_that_is_paused_stands_still_till_it_goes_on(children: Children) -> None:
    heard: list[str] = []
    program = "while True: print('on', flush=True)"
    child = children.start("role", [sys.executable, "-c", program], on_line=heard.append)
    await eventually(lambda: heard)
    for _ in range(2):
        await child.pause()
        assert state(child.pid) == "T"
    await children.stop(child, seconds=0)
    await child.pause()  # of no effect


async def test_what_ignores_sigterm_is_killed_at_the_deadline(children: Children) -> None:
    heard: list[str] = []
    child = children.start(
        "role", [sys.executable, "-c", f"{STUBBORN}; time.sleep(600)"], on_line=heard.append
    )
    await eventually(lambda: heard)
    assert await children.stop(child, seconds=0.2) == -signal.SIGKILL


async def test_children_of_a_child_end_with_it(children: Children) -> None:
    heard: list[str] = []
    program = (
        f"import subprocess; p = subprocess.Popen({SLEEPER}); print(p.pid, flush=True); p.wait()"
    )
    child = children.start("role", [sys.executable, "-c", program], on_line=heard.append)
    grandchild = int((await eventually(lambda: heard))[0])
    await children.stop(child)
    await eventually(lambda: not alive(grandchild))


async def test_a_child_is_registered_until_it_is_stopped(
    children: Children, tmp_path: Path
) -> None:
    one = children.start("worker", SLEEPER)
    two = children.start("accounts", SLEEPER, address="http://127.0.0.1:8000")
    registered = [
        Process("worker", one.pid, ""),
        Process("accounts", two.pid, "http://127.0.0.1:8000"),
    ]
    assert read_processes(tmp_path) == registered
    await children.stop(one)
    assert read_processes(tmp_path) == registered[1:]
    await children.close()
    assert read_processes(tmp_path) == []


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    async def start() -> None:
        family = Children(tmp_path)
        try:
            family.start("role", [tmp_path / "nothing"])
        finally:
            await family.close()

    with pytest.raises(FileNotFoundError):
        asyncio.run(start())


def test_the_dead_vanish_from_the_registry(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPER) as process:
        register(tmp_path, Process("role", process.pid, ""))
        assert [each.pid for each in read_processes(tmp_path)] == [process.pid]
        process.kill()
    assert read_processes(tmp_path) == []
    register(tmp_path, Process("us", os.getpid(), ""))
    assert str(process.pid) not in (tmp_path / FILE).read_text()


def test_many_writers_lose_no_entry(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        roles = [Process(f"role-{number}", os.getpid(), "") for number in range(80)]
        list(pool.map(lambda role: register(tmp_path, role), roles))
    assert sorted(read_processes(tmp_path), key=str) == sorted(roles, key=str)
    unregister(tmp_path, os.getpid())
    assert read_processes(tmp_path) == []


@pytest.mark.parametrize("text", [None, "", "[{"])
def test_a_registry_that_is_not_there_or_broken_is_empty(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert read_processes(tmp_path) == []


async def test_sigkill_of_the_parent_leaves_no_child_even_a_stubborn_one(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from pipeline.embedded.processes import Children
family = Children(Path(sys.argv[1]))
for code in ("import time", {STUBBORN!r}):
    family.start("role", [sys.executable, "-c", code + "; time.sleep(600)"])
time.sleep(600)
"""
    family = Children()
    heard: list[str] = []
    parent = family.start("parent", [sys.executable, "-c", program, tmp_path], on_line=heard.append)
    await eventually(lambda: heard)  # the stubborn one has said that it is
    pids = [process.pid for process in read_processes(tmp_path)]
    assert len(pids) == 2
    parent.kill()
    await family.close()
    await eventually(lambda: not any(alive(pid) for pid in pids), seconds=GRACE + 20)
