"""What the scripts have in common that run a command beside a server of their own."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.embedded.processes import Child  # noqa: E402
from pipeline.embedded.server_binaries import SERVER_BINARIES  # noqa: E402
from tests.ports import free_port as free_port  # noqa: E402

CACHE = Path(os.environ.get("BANK_TEST_CACHE") or ROOT / ".real")
READY_SECONDS = 180.0


def setting(kind: str) -> str:
    """The variable that names servers of that kind to tests and benchmarks."""
    return f"BANK_TEST_{kind.upper()}_URL"


def wait_ready(kind: str, child: Child, port: int, log: Path) -> None:
    """Return when the server answers; stop here when it has died or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not asyncio.run(SERVER_BINARIES[kind].healthy("127.0.0.1", port)):
        if child.exit_code is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines()
            stop(4, f"{kind} did not start; it said last:\n" + "\n".join(lines[-30:]))
        time.sleep(0.2)


def beside(kind: str, said: str, url: str, command: list[str]) -> int:
    """Run the command beside the server of that url; returns its exit code."""
    print(f"{said} listens at {url}", flush=True)
    others = os.environ.get(setting(kind), "").split()
    return run(command, {setting(kind): " ".join([*others, url])})


def run(command: list[str], environ: dict[str, str]) -> int:
    """Run the command; the exit code of one that a signal ended is the shell's."""
    try:
        with subprocess.Popen(command, env={**os.environ, **environ}) as process:
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                raise
    except OSError as error:
        stop(2, f"{command[0]}: {error.strerror}")
    return code if code >= 0 else 128 - code


def say(what: str) -> None:
    """Tell on stderr, after this script's name."""
    print(f"{Path(sys.argv[0]).stem}: {what}", file=sys.stderr, flush=True)


def stop(code: int, why: str) -> NoReturn:
    """Say why on stderr and leave."""
    say(why)
    sys.exit(code)
