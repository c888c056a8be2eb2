"""The whole bank under torture on clusters of servers, with a seed of its own."""

import asyncio
import shutil

import pytest

from tests.harness import rounds
from tests.torture.kinds import CLUSTERS
from tests.torture.report import announced, lines
from tests.torture.run import Plan, torture


@pytest.mark.cluster
# As in `test_torture.py`.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(3600)
def test_every_invariant_holds_on_clusters() -> None:
    minutes = rounds(10, 100) / 5
    plan = Plan(1164, minutes, tuple(sorted(CLUSTERS.faults)), CLUSTERS.settle, CLUSTERS)
    print(announced(plan))
    outcome = asyncio.run(torture(plan))
    said = "\n".join(lines(outcome))
    print(said)
    assert outcome.holds, said
    assert all(outcome.breaches.checked.values()), said
    shutil.rmtree(outcome.folder, ignore_errors=True)
