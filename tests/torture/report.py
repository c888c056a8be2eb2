"""What a run prints: seed, schedule, counts of the history, a verdict for each invariant."""

from collections.abc import Iterator
from typing import Final

from tests.torture.breaches import INVARIANTS
from tests.torture.run import Outcome, Plan

_SHOWN: Final = 5


def announced(plan: Plan) -> str:
    """Before it begins: all that is needed to run it again."""
    steps = "\n".join(f"  {step}" for step in plan.steps)
    words = ["make torture", *plan.kind.words, f"SEED={plan.seed} MINUTES={plan.minutes:g}"]
    return f"{' '.join(words)} FAULTS={','.join(plan.faults)}\n{steps}"


def lines(outcome: Outcome) -> Iterator[str]:
    begun, planned = len(outcome.begun), len(outcome.plan.steps)
    yield f"seed {outcome.plan.seed}, {begun} of {planned} faults begun"
    for step, why in outcome.missed.items():
        yield f"  {step}  missed: {why}"
    yield ", ".join(f"{what} after {seconds:.0f} s" for what, seconds in outcome.phases)
    yield ", ".join(f"{count:,} {what}" for what, count in outcome.history.counts().items())
    for number, title in INVARIANTS.items():
        found, checked = outcome.breaches.of(number), outcome.breaches.checked[number]
        verdict = "BROKEN" if found else "holds" if checked else "not judged"
        yield f"{number:>3}  {title:<78} {verdict:<10} {checked:,} looks"
        for breach in found[:_SHOWN]:
            when = f"after {breach.seconds:.1f} s" if breach.live else "at the end"
            yield f"       {when}: {breach.what}"
        if len(found) > _SHOWN:
            yield f"       and {len(found) - _SHOWN} more"
    if not outcome.holds:
        yield f"History and logs are in {outcome.folder}"
