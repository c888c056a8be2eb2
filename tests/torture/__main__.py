"""The command: `python -m tests.torture --seed 7 --minutes 2 --faults kill-worker,flushall`.

With `--cluster` on clusters of servers, with `--application parcels` of the example.
"""

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path

from tests.torture.kinds import CLUSTERS, EMBEDDED, PARCELS
from tests.torture.report import announced, lines
from tests.torture.run import Outcome, Plan, torture


def plan() -> tuple[Plan, Path | None]:
    """What the words on the command line ask for; ends the process when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--faults", default="", help="names with commas between; default: all")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--cluster", action="store_true", help="on clusters of servers")
    kinds.add_argument("--application", choices=["bank", "parcels"], default="bank")
    parser.add_argument("--settle", type=float, help="seconds")
    parser.add_argument("--json", type=Path, help="where to write what was found broken, too")
    parser.add_argument("--list", action="store_true", help="name the faults and leave")
    given = parser.parse_args()
    alone = PARCELS if given.application == "parcels" else EMBEDDED
    kind = CLUSTERS if given.cluster else alone
    if given.list:
        print("\n".join(sorted(kind.faults)))
        sys.exit()
    names = tuple(name.strip() for name in given.faults.split(",") if name.strip())
    if unknown := [name for name in names if name not in kind.faults]:
        parser.error(f"no such faults: {', '.join(unknown)}; --list names all")
    faults, settle = names or tuple(sorted(kind.faults)), given.settle or kind.settle
    return Plan(given.seed, given.minutes, faults, settle, kind), given.json


def main() -> int:
    wanted, path = plan()
    print(announced(wanted), flush=True)
    outcome = asyncio.run(torture(wanted))
    print("\n".join(lines(outcome)))
    if path is not None:
        _write(path, outcome)
    if outcome.holds:
        shutil.rmtree(outcome.folder, ignore_errors=True)
    return 0 if outcome.holds else 1


def _write(path: Path, outcome: Outcome) -> None:
    found = [each._asdict() for each in outcome.breaches.found]
    plan = {"seed": outcome.plan.seed, "faults": outcome.plan.faults}
    about = {"plan": plan, "folder": str(outcome.folder)}
    path.write_text(json.dumps({**about, "seconds": outcome.history.now(), "breaches": found}))


if __name__ == "__main__":
    sys.exit(main())
