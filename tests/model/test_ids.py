"""Ids: valid ULIDs of the present time, unique, in order; also those of threads and of a fork."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ulid import ULID

from pipeline.model import ids
from pipeline.model.ids import new_id


def test_an_id_is_a_ulid_of_the_present_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    assert before <= ULID.from_str(made).milliseconds <= time.time_ns() // 1_000_000
    assert str(ULID.from_str(made)) == made


def test_ids_sort_as_they_were_made() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_ids_of_one_millisecond_differ_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    parent = {new_id() for _ in range(1000)}
    ids._forget()  # as a fork does, and as in a process that has just started
    child = {new_id() for _ in range(1000)}
    assert len(parent | child) == 2000
    assert {made[:10] for made in parent | child} == {"01HF7YAT00"}


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [each for part in pool.map(lambda _: _some(), range(64)) for each in part]
    assert len(set(made)) == len(made)


def test_a_forked_process_begins_anew() -> None:
    """In a process of its own: this one has threads, which a fork would not take along."""
    program = """
import os
from pipeline.model import ids
ids.new_id()
if not (child := os.fork()):
    os._exit(ids._now[0] != -1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _some() -> list[str]:
    return [new_id() for _ in range(500)]
