"""The tools around the tests: make, the CI script, and the lane on a real Elasticsearch."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASH = str(shutil.which("bash"))


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command with no environment but `environ`; returns its output and exit code."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("goal", [["help"], []])
def test_make_help_shows_every_target(goal: list[str]) -> None:
    shown = run("make", *goal, PATH="/usr/local/bin:/usr/bin:/bin")
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert {line.split()[1] for line in shown.stdout.splitlines()} == set(targets[1].split())
    assert all(len(line.split(maxsplit=2)) == 3 for line in shown.stdout.splitlines())


def test_the_ci_script_is_sound_bash() -> None:
    assert run(BASH, "-n", ROOT / ".ci" / "run").stderr == ""
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


class Machine:
    """A machine on which only the programs that a test puts there can be found."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.cache = folder / "cache"

    def has(self, name: str, says: str = "", code: int = 0) -> None:
        program = self.programs / name
        program.write_text(f"#!{BASH}\necho '{says}' >&2\nexit {code}\n")
        program.chmod(0o755)

    def has_java(self, version: str) -> None:
        self.has("java", f"java.home = /jdk\n    java.specification.version = {version}")

    def with_elasticsearch(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._run("with_elasticsearch.py", *command)

    def with_mongodb(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self._run("with_mongodb.py", *command, CARGO_HOME=str(self.cache), **environ)

    def _run(self, script: str, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run(
            sys.executable,
            ROOT / "scripts" / script,
            *command,
            PATH=str(self.programs),
            BANK_TEST_CACHE=str(self.cache),
            **environ,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_real_lane_wants_a_command(machine: Machine) -> None:
    done = machine.with_elasticsearch()
    assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_the_real_lane_names_java_when_it_is_missing(machine: Machine) -> None:
    done = machine.with_elasticsearch("true")
    assert (done.returncode, "install a JDK 17" in done.stderr) == (3, True)


@pytest.mark.parametrize("version", ["1.8", "11", "16"])
def test_the_real_lane_names_a_java_that_is_too_old(machine: Machine, version: str) -> None:
    machine.has_java(version)
    done = machine.with_elasticsearch("true")
    assert done.returncode == 3
    assert f"is Java {version.removeprefix('1.')}: Elasticsearch" in done.stderr


def test_the_real_lane_names_maven_when_it_is_missing(machine: Machine) -> None:
    machine.has_java("17")
    done = machine.with_elasticsearch("true")
    assert (done.returncode, "install Maven" in done.stderr) == (3, True)


def test_the_real_lane_says_so_when_maven_can_not_fetch(machine: Machine) -> None:
    machine.has_java("21")
    machine.has("mvn", "no network", code=1)
    done = machine.with_elasticsearch("true")
    assert done.returncode == 3
    assert "no network" in done.stderr
    assert "could not fetch org.elasticsearch" in done.stderr
    assert list(machine.cache.iterdir()) == []


def test_without_cargo_the_command_runs_on_the_embedded_mongodb(machine: Machine) -> None:
    done = machine.with_mongodb(BASH, "-c", "echo ${BANK_TEST_MONGODB_URL:-none}; exit 7")
    assert (done.returncode, done.stdout) == (7, "none\n")
    assert "no `cargo`" in done.stderr
    assert "the embedded MongoDB is taken" in done.stderr


def test_what_cargo_can_not_build_is_left_out(machine: Machine) -> None:
    machine.has("cargo", "no network", code=101)
    done = machine.with_mongodb(BASH, "-c", "echo ${BANK_TEST_MONGODB_URL:-none}")
    assert (done.returncode, done.stdout) == (0, "none\n")
    assert "no network" in done.stderr
    assert "could not build secantus-mdb" in done.stderr


def test_a_mongodb_that_is_named_is_taken(machine: Machine) -> None:
    named = {"BANK_TEST_MONGODB_URL": "mongodb://somewhere"}
    done = machine.with_mongodb(BASH, "-c", "echo $BANK_TEST_MONGODB_URL", **named)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mongodb://somewhere\n", "")


def test_a_mongodb_that_does_not_start_is_told(machine: Machine) -> None:
    machine.has("secantusd-rs", "no room")
    done = machine.with_mongodb("true")
    assert done.returncode == 4
    assert "no room" in done.stderr
