"""The whole bank under torture, with a seed of its own: every invariant holds."""

import asyncio
import shutil

import pytest

from tests.harness import LONG_LANE, rounds
from tests.torture.breaches import INVARIANTS
from tests.torture.faults import FAULTS
from tests.torture.kinds import CLUSTERS, PARCELS
from tests.torture.report import announced, lines
from tests.torture.run import Plan, torture
from tests.wheel import ROOT

# The clients' HTTP library leaves a connection behind if a request is given up just when that is
# made; the bank's own roles are other processes.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@LONG_LANE
@pytest.mark.timeout(1800)
def test_every_invariant_holds_under_torture() -> None:
    plan = Plan(seed=1164, minutes=rounds(6, 50) / 5, faults=tuple(sorted(FAULTS)))
    assert hold(plan) == INVARIANTS.keys()


@pytest.mark.cluster
@pytest.mark.timeout(3600)
def test_every_invariant_holds_on_clusters() -> None:
    minutes = rounds(10, 100) / 5
    plan = Plan(1164, minutes, tuple(sorted(CLUSTERS.faults)), CLUSTERS.settle, CLUSTERS)
    assert hold(plan) == INVARIANTS.keys()


@LONG_LANE
@pytest.mark.timeout(1800)
def test_the_example_holds_under_torture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples" / "parcels"))
    minutes = rounds(3, 50) / 5
    judged = hold(Plan(1164, minutes, tuple(sorted(PARCELS.faults)), PARCELS.settle, PARCELS))
    assert judged >= {2, 3, 4, 8, 10, 11, 12, 13, 16}


def hold(plan: Plan) -> set[int]:
    """The numbers of the invariants that were judged."""
    print(announced(plan))
    outcome = asyncio.run(torture(plan))
    said = "\n".join(lines(outcome))
    print(said)
    assert outcome.holds, said
    shutil.rmtree(outcome.folder, ignore_errors=True)
    return {number for number, times in outcome.breaches.checked.items() if times}
