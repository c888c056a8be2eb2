"""The whole bank under torture, with a seed of its own: every invariant holds."""

import asyncio
import shutil

import pytest

from tests.harness import rounds
from tests.torture.faults import FAULTS
from tests.torture.kinds import CLUSTERS
from tests.torture.report import announced, lines
from tests.torture.run import Plan, torture

# The clients' HTTP library leaves a connection behind if a request is given up just when that is
# made; the bank's own roles are other processes.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.timeout(1800)
def test_every_invariant_holds_under_torture() -> None:
    hold(Plan(seed=1164, minutes=rounds(6, 50) / 5, faults=tuple(sorted(FAULTS))))


@pytest.mark.cluster
@pytest.mark.timeout(3600)
def test_every_invariant_holds_on_clusters() -> None:
    minutes = rounds(10, 100) / 5
    hold(Plan(1164, minutes, tuple(sorted(CLUSTERS.faults)), CLUSTERS.settle, CLUSTERS))


def hold(plan: Plan) -> None:
    print(announced(plan))
    outcome = asyncio.run(torture(plan))
    said = "\n".join(lines(outcome))
    print(said)
    assert outcome.holds, said
    assert all(outcome.breaches.checked.values()), said
    shutil.rmtree(outcome.folder, ignore_errors=True)
