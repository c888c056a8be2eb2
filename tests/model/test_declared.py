"""A role whose installed entry points are stale or contradict each other ends before it begins."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.application import GROUP as APPLICATIONS
from pipeline.banking.events import DEPOSITED, FROZEN
from pipeline.support.settings import Settings
from tests.harness import Role

ROLES: Final = ("accounts", "balances", "forwarder", "worker")
OURS: Final = """
[bank.projections]
balance = pipeline.banking.balance:BALANCE
statement = pipeline.banking.statement:STATEMENT

[faust.transports]
nats = pipeline.bridge:Transport
"""
"""The entry points of the package before it had applications and upcasters."""
APPLICATION: Final = f"[{APPLICATIONS}]\nbank = pipeline.banking.application:BANK\n"
GROUP: Final = "bank.upcasters"
DECLARED: Final = f"[{GROUP}]\nbank = pipeline.banking.upcasters:UPCASTERS\n"
"""As releases did in which the bank named no aggregate."""
OTHER: Final = f"[{GROUP}]\nother = tests.model.test_declared:OTHERS\n"
OTHERS: Final = {(FROZEN, 1): lambda event: dict(event["body"])}
MORE: Final = f"[{GROUP}]\nmore = tests.model.test_declared:NEWER\n"
NEWER: Final = {(DEPOSITED, 1): lambda event: dict(event["body"])}


def installed(folder: Path, name: str, entry_points: str) -> str:
    """The folder with a package of that name; one that stands first hides a later one."""
    about = folder / f"{name}-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    return str(folder)


async def ended(role: str, settings: Settings, path: str) -> str:
    """What the role says at its end, which is at its start."""
    async with Role(settings, "bank", role, PYTHONPATH=path) as started:
        assert await started.wait() == 1
        return started.log()


async def test_a_package_that_was_installed_when_it_declared_its_upcasters_goes_on(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    path = installed(tmp_path, "bank_transfer", OURS + APPLICATION + DECLARED)
    async with Role(settings, "bank", "settings", PYTHONPATH=path) as started:
        assert await started.wait() == 0


async def test_one_that_was_installed_before_applications_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    said = await ended("worker", settings, installed(tmp_path, "bank_transfer", OURS))
    assert f"no entry points of {APPLICATIONS}: install the package again (make install)" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("role", ROLES)
async def test_a_schema_that_two_packages_declare_is_named(role: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    said = await ended(role, settings, installed(tmp_path, "other", OTHER))
    assert f"{GROUP}: other brings two upcasters of [('{FROZEN}', 1)]" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("role", ["accounts", "worker"])
async def test_a_schema_that_the_account_does_not_know_is_named(role: str, tmp_path: Path) -> None:
    """Deposits would be stored in the older one, and read as the newer one."""
    settings = Settings(data_dir=tmp_path / "data")
    said = await ended(role, settings, installed(tmp_path, "more", MORE))
    assert f"{GROUP}: more brings upcasters of ['{DEPOSITED}']: these are an aggregate's" in said
    assert "Traceback" not in said
