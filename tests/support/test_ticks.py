"""What a process does now and then, it does at the same moments."""

import time

import pytest

from pipeline.support import ticks


def test_all_that_rest_wake_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for tenths in range(100):
        now = 1000 + tenths / 10
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        rest = ticks.to_tick(2.0)
        assert 0.5 < rest <= 2.5
        since = (now + rest - ticks._BEGAN) % 2.0
        assert min(since, 2.0 - since) < 1e-6
