"""Reads and writes `processes.json` in the data folder: the running roles, with pid and address."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.support.private_files import private_file

FILE = "processes.json"


@dataclass(frozen=True, slots=True)
class Process:
    """One entry. `address` is a URL, or empty for a process that listens nowhere."""

    role: str
    pid: int
    address: str


def read_processes(data_dir: Path) -> list[Process]:
    """The processes that are registered and alive, in the order of their start."""
    try:
        entries = json.loads((data_dir / FILE).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    return [process for process in (Process(**entry) for entry in entries) if alive(process.pid)]


def register(data_dir: Path, process: Process) -> None:
    """Add a process, and remove those that have died."""
    with _changing(data_dir) as processes:
        processes.append(process)


def unregister(data_dir: Path, pid: int) -> None:
    """Remove a process; a missing one is no error."""
    with _changing(data_dir) as processes:
        processes[:] = [process for process in processes if process.pid != pid]


def alive(pid: int) -> bool:
    """Whether a process with this id runs. A zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # this system has no /proc, or the process has just ended
        return True
    return state != "Z"


@contextlib.contextmanager
def _changing(data_dir: Path) -> Iterator[list[Process]]:
    """Read, modify and write the file under a lock.

    Readers take no lock: the rename shows them the old file or the new one, never a part.
    """
    with private_file(data_dir / f"{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = read_processes(data_dir)
        yield processes
        draft = private_file(data_dir / f"{FILE}.new")
        draft.write_text(json.dumps([asdict(process) for process in processes], indent=1) + "\n")
        draft.replace(data_dir / FILE)
