#!/usr/bin/env python3
"""Run a command beside a real Elasticsearch, named to it in BANK_TEST_ELASTICSEARCH_URL.

    .venv/bin/python scripts/with_elasticsearch.py .venv/bin/pytest -m elasticsearch
    .venv/bin/python scripts/with_elasticsearch.py --nodes 2 .venv/bin/pytest -m elasticsearch -n 2

Each of pytest's workers needs one of its own; they are started at once.

Elasticsearch comes by Maven (that and Java 17 are needed, nothing else), is kept in .real/ or in
BANK_TEST_CACHE, runs on a free port with data of its own, and is stopped whatever happens. The exit
code is the command's; else 2 is a wrong usage, 3 something that is missing, 4 an Elasticsearch that
does not start.
"""

import asyncio
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lane import CACHE, beside, free_port, stop, wait_ready

from pipeline.embedded.processes import Child, Children, small_environment

VERSION = "8.19.8"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
JAVA = 17
ALONE = {"discovery.type": "single-node", "transport.port": "0"}
UNPRIVILEGED = "nobody"
KIND = "elasticsearch"
DROP_RIGHTS = """
import os, sys
uid, gid, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
os.execv(command[0], command)
"""


def main() -> int:
    """Run the command line's command; returns its exit code."""
    nodes, command = asked(sys.argv[1:])
    java, archive = java_home(), fetched()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="bank-elasticsearch-"))
    folder.chmod(0o755)  # the nodes run as somebody else
    children = Children()
    try:
        homes = {free_port(): folder / str(number) for number in range(nodes)}
        started: list[tuple[Child, int, Path]] = []
        for port, home in homes.items():
            log = home / "elasticsearch.log"
            home.mkdir()
            prepare(home, archive, {**ALONE, "http.port": port})
            started.append((start(children, home, java, log, heap="1g"), port, log))
        for child, port, log in started:
            wait_ready(KIND, child, port, log)
        urls = " ".join(f"http://127.0.0.1:{port}" for port in homes)
        return beside(KIND, f"Elasticsearch {VERSION}", urls, command)
    finally:
        asyncio.run(children.close())
        shutil.rmtree(folder, ignore_errors=True)


def asked(words: list[str]) -> tuple[int, list[str]]:
    """How many nodes, and the command to run beside them."""
    nodes, command = (words[1:2], words[2:]) if words[:1] == ["--nodes"] else (["1"], words)
    if not command or not nodes[0].isdecimal():
        stop(2, f"usage: {sys.argv[0]} [--nodes NUMBER] COMMAND [ARGUMENT…]")
    return int(nodes[0]), command


def java_home() -> str:
    """The folder of a Java that is new enough and that anybody may run."""
    java = shutil.which("java")
    if java is None:
        stop(
            3,
            f"there is no `java`: install a JDK {JAVA} or newer (Debian: openjdk-17-jdk-headless)",
        )
    shown = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False
    )
    home = re.search(r"java\.home = (.+)", shown.stderr)
    version = re.search(r"java\.specification\.version = (?:1\.)?(\d+)", shown.stderr)
    if home is None or version is None:
        stop(3, f"{java} does not tell its version:\n{shown.stderr}")
    if int(version[1]) < JAVA:
        stop(3, f"{java} is Java {version[1]}: Elasticsearch {VERSION} needs {JAVA} or newer")
    return home[1].strip()


def fetched() -> Path:
    """Elasticsearch's archive in the cache, fetched by Maven when it isn't there."""
    archive = CACHE / f"elasticsearch-{VERSION}.zip"
    if archive.exists():
        return archive
    maven = shutil.which("mvn")
    if maven is None:
        stop(3, "there is no `mvn`: install Maven 3 (Debian: maven); it fetches Elasticsearch")
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"Maven fetches Elasticsearch {VERSION}, 98 MB, to {CACHE}", flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        wanted = [f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={folder}"]
        done = subprocess.run(
            [maven, "-B", "-q", "-Dstyle.color=never", "dependency:copy", *wanted],
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            stop(3, f"Maven could not fetch {ARTIFACT}: see above")
        Path(folder, archive.name).replace(archive)
    return archive


def prepare(home: Path, archive: Path, wanted: Mapping[str, object]) -> None:
    """Unpack Elasticsearch in `home` and configure it as wanted."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(home)
    unpacked = home / f"elasticsearch-{VERSION}"
    for part in unpacked.iterdir():
        part.rename(home / part.name)
    settings = {
        "network.host": "127.0.0.1",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        "xpack.security.enabled": "false",
        **wanted,
    }
    lines = [f"{name}: {value}\n" for name, value in settings.items()]
    (home / "config" / "elasticsearch.yml").write_text("".join(lines))
    for program in (home / "bin").iterdir():
        program.chmod(0o755)


def start(children: Children, home: Path, java: str, log: Path, *, heap: str) -> Child:
    """Start what `prepare` has put there; `heap` is Java's, such as `512m`."""
    environ = {
        **small_environment(),
        "HOME": str(home),
        "ES_JAVA_HOME": java,
        "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
    }
    program = [*without_rights(home), "/bin/bash", str(home / "bin" / "elasticsearch")]
    return children.start(home.name, program, env=environ, cwd=home, log=log)


def without_rights(home: Path) -> list[str]:
    """What stands before a command that Elasticsearch refuses to run as root; hands `home` over."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(UNPRIVILEGED)
    for path in (home, *home.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return [sys.executable, "-c", DROP_RIGHTS, str(user.pw_uid), str(user.pw_gid)]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
