"""The wheel: it has every file, names all that it imports, and works where nothing else is."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from tests.harness import rounds
from tests.wheel import ROOT, Environment, build

PACKAGES = ("pipeline", "api")
PARTS = {"pydantic_core": "pydantic"}
"""What belongs to a dependency, which asks for exactly one version of it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def sources() -> Iterator[Path]:
    """Every file of the packages, code or not, that is kept in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            yield Path(name)


def test_every_file_of_the_packages_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {str(path) for path in sources()}


def test_the_wheel_has_the_command_the_transport_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        by_name = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        points = archive.read(by_name["entry_points.txt"]).decode()
    assert "[console_scripts]\nbank = pipeline.cli.main:main" in points
    assert "[faust.transports]\nnats = pipeline.bridge:Transport" in points
    assert {"LICENSE", "NOTICE"} <= by_name.keys()


def test_the_wheel_says_that_its_packages_are_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {f"{package}/py.typed" for package in PACKAGES} <= set(archive.namelist())


# ------------------------------------------------------------------ what it needs


def imported() -> set[str]:
    """The names of the packages that the bank's code imports, anywhere."""
    found = set[str]()
    for path in sources():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return {name.split(".")[0] for name in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_all_that_is_imported_is_a_dependency() -> None:
    """Of its own: what another one brings today may be gone tomorrow. What the extra `otel` brings
    is imported where it is on (`tests/support/test_tracing.py`); what `testing` brings, by pytest.
    """
    declared = {
        canonical(match[0])
        for line in requires("bank-transfer") or []
        if ("extra ==" not in line or re.search("extra == '(otel|testing)'", line))
        and (match := re.match(r"[\w.-]+", line))
    }
    owners = packages_distributions()
    foreign = imported() - set(sys.stdlib_module_names) - set(PACKAGES)
    assert len(foreign) > 10
    missing = {
        name
        for name in foreign
        if not declared & set(map(canonical, owners.get(PARTS.get(name, name), ())))
    }
    assert not missing


# ------------------------------------------------------------------ that it works


def test_a_bank_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """In an environment with the wheel, and the dependencies of this one: nothing is fetched."""
    folder, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    there = Environment(folder, wheel)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command,
            cwd=home,
            env=there.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=rounds(240, 1200),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = "import api, json, pipeline; print(json.dumps([pipeline.__file__, api.__file__]))"
    assert all(each.startswith(str(folder)) for each in json.loads(run(there.python, "-c", where)))
    load = ["--accounts", "20", "--commands", str(rounds(200, 20_000))]
    assert "All of it holds." in run(there.scripts / "bank", "demo", *load)
