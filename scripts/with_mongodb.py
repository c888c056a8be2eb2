#!/usr/bin/env python3
"""Run a command beside a quicker MongoDB wire server, named to it in BANK_TEST_MONGODB_URL.

    .venv/bin/python scripts/with_mongodb.py .venv/bin/python -m benchmarks --real

It is not MongoDB: it is the embedded stand-in once more, in Rust where that one is in Python. Cargo
builds it, which takes some minutes and is done once; it is kept in .real/ or in BANK_TEST_CACHE. It
runs on a free port with data of its own, and is stopped whatever happens.

Without cargo, or where it can't be built, that is said, and the command runs all the same, on what
it starts itself; also when BANK_TEST_MONGODB_URL names a server already. The exit code is the
command's; else 2 is a wrong usage, 4 a server that does not start.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from lane import CACHE, beside, free_port, run, say, setting, stop, wait_ready

from pipeline.embedded.processes import Children, small_environment

PROGRAM, CRATE, VERSION = "secantusd-rs", "secantus-mdb", "0.5.3-beta.196"
KIND = "mongodb"


def main() -> int:
    """Run the command line's command; returns its exit code."""
    command = sys.argv[1:]
    if not command:
        stop(2, f"usage: {sys.argv[0]} COMMAND [ARGUMENT…]")
    if os.environ.get(setting(KIND)):
        return run(command, {})
    program = found() or built()
    if program is None:
        return run(command, {})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    home = Path(tempfile.mkdtemp(prefix="bank-mongodb-"))
    children = Children()
    try:
        port, log, config = free_port(), home / "mongodb.log", home / "empty.toml"
        config.touch()  # else it would take one that lies in the working folder
        (home / "data").mkdir()
        line: list[str | Path] = [program, "--config", config, "--sync-on-commit"]
        line += ["--host", "127.0.0.1", "--port", str(port), "--storage-path", home / "data"]
        child = children.start("it", line, env=small_environment(), cwd=home, log=log)
        wait_ready(KIND, child, port, log)
        return beside(KIND, f"{PROGRAM} {VERSION}", f"mongodb://127.0.0.1:{port}", command)
    finally:
        asyncio.run(children.close())
        shutil.rmtree(home, ignore_errors=True)


def found() -> Path | None:
    """The program, if it was built before."""
    cargo = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "bin"
    places = [str(CACHE / "bin"), str(cargo), os.environ.get("PATH", os.defpath)]
    program = shutil.which(PROGRAM, path=os.pathsep.join(places))
    return Path(program) if program else None


def built() -> Path | None:
    """The program, built now; None if that can't be, which is said."""
    cargo = shutil.which("cargo")
    if cargo is None:
        say(f"there is no `cargo` to build {PROGRAM} with: the embedded MongoDB is taken")
        return None
    say(f"cargo builds {CRATE} {VERSION} in {CACHE}, which takes some minutes")
    wanted = [CRATE, "--version", VERSION, "--root", str(CACHE), "--ignore-rust-version"]
    done = subprocess.run([cargo, "install", "--quiet", *wanted], check=False)
    if done.returncode:
        say(f"cargo could not build {CRATE}, see above: the embedded MongoDB is taken")
        return None
    return found()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
