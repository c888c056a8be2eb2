"""The data folder and what is in it is its user's alone, also one that was made before."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded.process_registry import FILE, Process, register
from pipeline.embedded.startup_checks import check_disk
from pipeline.support.private_files import private_file, private_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def everybody_may_read() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_folder_and_one_that_is_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    for folder in (tmp_path / "new" / "deep", there):
        check_disk(folder)
        assert mode(folder) == 0o700


def test_files(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("kept")
    assert mode(old) == 0o666
    for file in (old, tmp_path / "new"):
        private_file(file)
        assert mode(file) == 0o600
    assert old.read_text() == "kept"


def test_the_registry_of_processes(tmp_path: Path) -> None:
    register(tmp_path, Process("worker", os.getpid(), "http://127.0.0.1:1"))
    assert {each.name: mode(each) for each in tmp_path.iterdir()} == {
        FILE: 0o600,
        f"{FILE}.lock": 0o600,
    }


def test_a_folder_that_is_everybodys_stays_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert mode(private_folder(tmp_path)) == 0o1777
