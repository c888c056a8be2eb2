"""A process that hangs at its end leaves all the same."""

import subprocess
import sys

import pytest

HANGING = {
    "a thread": "threading.Thread(target=time.sleep, args=(60,)).start()",
    "the event loop": "time.sleep(60)",
}


@pytest.mark.parametrize("what", HANGING)
@pytest.mark.parametrize("code", [0, 130])
def test_it_leaves_with_a_line_and_the_exit_code_asked_for(what: str, code: int) -> None:
    program = f"""
import logging, threading, time
from pipeline.support.stopping import leave_within
logging.basicConfig(format="%(message)s")
leave_within(0.2, {code})
{HANGING[what]}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (code, "leaving: something still hangs 0.2 s later\n")


def test_one_that_does_not_hang_is_not_kept() -> None:
    program = "from pipeline.support.stopping import leave_within; leave_within(60)"
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0
