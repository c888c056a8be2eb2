#!/usr/bin/env python3
"""Run a command beside a Docker daemon that has the images of compose.yaml.

    .venv/bin/python scripts/with_docker.py docker compose up --build --wait

A daemon that answers is used as it is, and pulls what it has not. Where none does, one is started
with a socket and data of its own, and images of the same names are made for it of what Debian,
PyPI, Maven and Go have (tests/compose/images): the true server where it can be had, else a stand-in
that says so. That takes root, Debian's docker.io and debootstrap, Maven and Go, some minutes and
1 GB in .real/ or in BANK_TEST_CACHE, where it is kept for the next time.

The daemon changes nothing of the machine's network, and ends with all its containers and data. The
exit code is the command's; else 2 is a wrong usage, 3 something that is missing, 4 a daemon that
does not start or an image that can't be made.
"""

import ast
import asyncio
import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from lane import CACHE, ROOT, run, say, stop
from with_elasticsearch import VERSION as ELASTICSEARCH
from with_elasticsearch import fetched

from pipeline.embedded.processes import Child, Children

COMPOSE: Final = "github.com/docker/compose/v2", "v2.40.3"
NATS: Final = "github.com/nats-io/natscli/nats@v0.5.0"
DEBIAN: Final = "trixie"
IMAGES: Final = ROOT / "tests" / "compose" / "images"
TRUSTED: Final = "/etc/ssl/certs/ca-certificates.crt"
SERVERS: Final = "servers"
"""The image that all stand-ins for servers begin with."""
STARTED_SECONDS: Final = 60.0
STOPPED_SECONDS: Final = 60.0
MADE_SECONDS: Final = 1200.0
NEEDED: Final = {"dockerd": "docker.io", "docker-proxy": "docker.io", "debootstrap": "debootstrap"}
"""Programs, and the packages of Debian that have them."""

Services = Mapping[str, Mapping[str, Any]]


def main() -> int:
    """Run the command line's command; returns its exit code."""
    command = sys.argv[1:]
    if not command:
        stop(2, f"usage: {sys.argv[0]} COMMAND [ARGUMENT…]")
    if shutil.which("docker") is None:
        stop(3, "there is no `docker` (Debian: docker.io)")
    if answers({}):
        if quiet(["docker", "compose", "version"], {}):
            stop(3, "a Docker daemon answers, but `docker compose` is missing")
        return run(command, {})
    if os.geteuid() != 0:
        stop(3, "no Docker daemon answers, and only root can start one")
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            stop(3, f"no Docker daemon answers, and there is no `{program}` (Debian: {package})")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    home = Path(tempfile.mkdtemp(prefix="bank-docker-"))
    try:
        services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        with daemon(home) as environ:
            environ |= compose(home, services)
            provide(home, services, environ)
            return run(command, environ)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def answers(environ: Mapping[str, str]) -> bool:
    return not quiet(["docker", "version"], environ)


def quiet(command: Sequence[str | Path], environ: Mapping[str, str]) -> int:
    """The exit code of a command, which may say what it likes."""
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, check=False, timeout=60
    )
    return done.returncode


def made(command: Sequence[str | Path], environ: Mapping[str, str], cwd: Path = ROOT) -> None:
    """Run a command that makes something; what it says is shown only when it fails."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environ},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=MADE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        stop(4, str(error))
    if done.returncode:
        stop(4, f"{' '.join(map(str, command))}:\n{done.stdout.decode(errors='replace')[-4000:]}")


# ------------------------------------------------------------------ the daemon


@contextmanager
def daemon(home: Path) -> Iterator[dict[str, str]]:
    """A daemon in `home`; the variables that name it to `docker`."""
    environ = {"DOCKER_HOST": f"unix://{home}/docker.sock", "DOCKER_CONFIG": f"{home}/config"}
    log = home / "dockerd.log"
    command: list[str | Path] = [
        "dockerd",
        "--host",
        environ["DOCKER_HOST"],
        "--pidfile",
        home / "pid",
    ]
    command += ["--data-root", home / "data", "--exec-root", home / "exec"]
    # Containers talk on networks of their own; ports are published by dockerd's own proxy.
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    children = Children()
    try:
        child = children.start("it", command, cwd=home, log=log)
        wait_started(child, environ, log)
        say(f"a daemon of its own, in {home}")
        try:
            yield environ
        finally:
            emptied(environ)
    finally:
        asyncio.run(children.close(STOPPED_SECONDS))
        unmounted(home)


def wait_started(child: Child, environ: Mapping[str, str], log: Path) -> None:
    deadline = time.monotonic() + STARTED_SECONDS
    while not answers(environ):
        if child.exit_code is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines()
            stop(4, "dockerd did not start; it said last:\n" + "\n".join(lines[-20:]))
        time.sleep(0.2)


def emptied(environ: Mapping[str, str]) -> None:
    """Leave no container and no bridge behind: dockerd keeps both when it ends."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if containers := listed.stdout.split():
        made(["docker", "rm", "--force", "--volumes", *containers], environ)
    made(["docker", "network", "prune", "--force"], environ)


def unmounted(home: Path) -> None:
    """Unmount what a daemon that was killed has left in its folder."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([each for each in mounts if each.startswith(f"{home}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False)


# ------------------------------------------------------------------ Compose


def compose(home: Path, services: Services) -> dict[str, str]:
    """Put Compose where `docker` finds it; the variables that it goes by."""
    plugins = home / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(compose_program())
    # No network of a container reaches out, so that pip gets the machine's.
    built = {name for name, service in services.items() if "build" in service}
    ours = home / "build.json"
    ours.write_text(
        json.dumps({"services": {name: {"build": {"network": "host"}} for name in built}})
    )
    return {"COMPOSE_FILE": f"{ROOT / 'compose.yaml'}:{ours}"}


def compose_program() -> Path:
    """Compose, built by Go when it isn't in the cache."""
    module, version = COMPOSE
    program = CACHE / f"docker-compose-{version}"
    if program.exists():
        return program
    say(f"builds Compose {version}, which takes some minutes")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        (folder / "go.mod").write_text("module compose\n\ngo 1.24\n")
        imported = f'//go:build tools\n\npackage tools\n\nimport _ "{module}/cmd"\n'
        (folder / "tools.go").write_text(imported)
        made(["go", "get", f"{module}@{version}"], {}, folder)
        told = f"-ldflags=-X {module}/internal.Version={version}"
        build = ["go", "build", "-mod=mod", told, "-o", program.name, f"{module}/cmd"]
        made(build, {"CGO_ENABLED": "0"}, folder)
        (folder / program.name).replace(program)
    return program


# ------------------------------------------------------------------ images


def provide(home: Path, services: Services, environ: Mapping[str, str]) -> None:
    """Give the daemon all images that are not built of this repository, made here or kept."""
    ours = {service["image"] for service in services.values() if "build" in service}
    names = sorted({service["image"] for service in services.values()} - ours)
    base = next(
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM")
    )
    kept = CACHE / f"compose-images-{digest(base, *names)}.tar"
    if not kept.exists():
        make_base(base, home, environ)
        for image in [SERVERS, *names]:
            make_image(image, home, environ)
        for old in CACHE.glob("compose-images-*.tar"):
            old.unlink()
        part = kept.with_suffix(".part")
        made(["docker", "save", "--output", part, base, *names], environ)
        part.replace(kept)
        return
    say(f"loads the images of {kept}")
    made(["docker", "load", "--input", kept], environ)


def digest(*names: str) -> str:
    """Another one whenever another image would be made."""
    files = [path for path in sorted(IMAGES.rglob("*")) if path.is_file()]
    told = [DEBIAN, NATS, ELASTICSEARCH, *names]
    parts = [*(path.read_bytes() for path in files), *(name.encode() for name in told)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def make_base(image: str, home: Path, environ: Mapping[str, str]) -> None:
    """Debian with its Python by the name of Python's own image, and what the machine trusts."""
    kept = CACHE / f"debian-{DEBIAN}.tar"
    if not kept.exists():
        say(f"installs Debian {DEBIAN}")
        tree, part = home / "tree", kept.with_suffix(".part")
        wanted = "--include=ca-certificates,python3-venv"
        made(["debootstrap", "--variant=minbase", wanted, DEBIAN, tree], {})
        for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(tree / left, ignore_errors=True)
        made(["tar", "--create", "--file", part, "--directory", tree, "."], {})
        part.replace(kept)
        shutil.rmtree(tree)
    say(f"makes {image} of Debian {DEBIAN}")
    made(["docker", "import", kept, "debian"], environ)
    context = home / "context"
    context.mkdir()
    (context / "pip.conf").write_text(pip_configuration())
    shutil.copyfile(ssl.get_default_verify_paths().cafile or TRUSTED, context / "trusted")
    lines = ["FROM debian", f"COPY trusted {TRUSTED}", "COPY pip.conf /etc/pip.conf"]
    lines += ["RUN ln -sf /usr/bin/python3 /usr/local/bin/python"]
    (context / "Dockerfile").write_text("\n".join(lines))
    build(image, context, environ)


def pip_configuration() -> str:
    """Where pip finds packages on this machine, for pip in an image."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    told: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        told[name.rpartition(".")[2]] = ast.literal_eval(value)
    kept = {"index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout"}
    lines = [f"{name} = {value}\n" for name, value in told.items() if name in kept]
    return "".join(["[global]\n", f"cert = {TRUSTED}\n", *lines])


def make_image(image: str, home: Path, environ: Mapping[str, str]) -> None:
    """The stand-in whose folder is named as the image is."""
    name = image.rpartition("/")[2].partition(":")[0]
    say(f"makes {image}")
    context = home / "context"
    shutil.copytree(IMAGES / name, context)
    if name == "elasticsearch":
        with zipfile.ZipFile(fetched()) as packed:
            packed.extractall(context)
        (context / f"elasticsearch-{ELASTICSEARCH}").rename(context / "distribution")
        for program in (context / "distribution" / "bin").iterdir():
            program.chmod(0o755)
    if name == "nats-box":
        made(["go", "install", NATS], {"GOBIN": str(context), "CGO_ENABLED": "0"})
    build(image, context, environ)


def build(image: str, context: Path, environ: Mapping[str, str]) -> None:
    """Build an image on the machine's network, as above, and remove what it was built of."""
    # The classic builder: BuildKit is a plugin of `docker`, but Compose has its own.
    command: list[str | Path] = ["docker", "build", "--network", "host", "--tag", image, context]
    made(command, {**environ, "DOCKER_BUILDKIT": "0"})
    shutil.rmtree(context)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
