"""The pytest plugin, in runs of pytest over projects that have nothing of this repository."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.application import Application
from pipeline.banking.application import BANK
from pipeline.testing.bank import name_of
from tests.apps.post import POST
from tests.testing.test_docs import blocks

INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""
TESTS = """
import pytest
from office import *


@pytest.fixture
async def bank(bank, request):
    # Nothing is left of another test.
    place = request.node.name
    assert (await bank.execute("parcel", "p", Scan(place))).after.version == 1
    assert (await bank.document("places", "p"))["at"] == place
    return bank


async def test_a_version_that_does_not_come_is_told(bank):
    with pytest.raises(AssertionError, match="places does not show version 2 of none"):
        await bank.document("places", "none", 2, seconds=0)


def test_the_environment_is_no_part_of_the_settings(bank_settings):
    assert bank_settings.keys == "off"
"""
_OTHERS = ("-p", "no:schemathesis", "-p", "no:valkey", "-p", "no:cacheprovider")
"""Plugins that happen to be installed here, too."""


def run(folder: Path, *options: str, **environ: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", *_OTHERS, *options]
    told = folder / "told"
    try:
        with told.open("w") as output:
            subprocess.run(
                command,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environ},
                stdout=output,
                stderr=output,
                check=False,
                timeout=560,
            )
    finally:
        print(told.read_text())  # pytest shows it, also of a run that took too long
    return told.read_text()


def code(page: str, having: str) -> str:
    return next(each for each in blocks(page) if having in each)


@pytest.mark.timeout(900)
def test_an_application_of_somebodys_own(tmp_path: Path) -> None:
    """The test of docs/testing.md, as it stands there, and others."""
    (tmp_path / "pytest.ini").write_text(INI)
    application = "\n".join(
        [
            code("aggregates.md", "PARCEL = "),
            code("testing.md", "PLACES = ").partition("def test_")[0],
            code("testing.md", "POST = ").partition("async def test_")[0],
        ]
    )
    (tmp_path / "office.py").write_text(application)
    documented = code("testing.md", "bank: Bank")
    (tmp_path / "test_office.py").write_text(f"{TESTS}\n\n{documented}")
    told = run(tmp_path, BANK_KEYS="on", BANK_PARTITIONS="3")
    assert "3 passed" in told, told


def test_it_is_in_nobodys_way(tmp_path: Path) -> None:
    """It imports nothing that takes time, and needs no pytest-asyncio."""
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_nothing_of_the_engine_is_there(request):\n"
        "    assert request.config.pluginmanager.hasplugin('bank')\n"
        "    assert not {'aiohttp', 'faust', 'motor', 'nats', 'pydantic'} & {*sys.modules}\n"
    )
    loop = ("-o", "asyncio_default_fixture_loop_scope=function")
    assert "1 passed" in run(tmp_path, *loop)
    assert "1 passed" in run(tmp_path, "-p", "no:asyncio", "-W", "error")
    listed = run(tmp_path, *loop, "--fixtures")
    for fixture in ("bank_servers", "bank_settings", "application", "bank"):
        assert f"\n{fixture}" in listed


def test_an_application_is_found_by_its_value() -> None:
    assert name_of("post:POST") == "post:POST"
    assert name_of(BANK) == "bank"
    assert name_of(POST) == "tests.apps.post:POST"
    with pytest.raises(LookupError, match="nowhere"):
        name_of(Application("nowhere"))
