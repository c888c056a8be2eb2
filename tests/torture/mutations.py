"""Whether torture catches what it must: each mutation, in a copy of the repository.

`python -m tests.torture.mutations` runs all of them and writes the table in docs/reliability.md;
with `--only` some, whose rows alone are replaced.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.torture.mutants import MUTATIONS, Mutation, mutate

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutations -->\n", "<!-- /mutations -->"
_COPIED: Final = ("pipeline", "api", "tests", "scripts", "examples", "pyproject.toml")
_SETTLE: Final = 25
_SECONDS: Final = 600
CONTROL: Final = Mutation("nothing at all", "", "", "", "", seed=2, minutes=1.0)


class Verdict(NamedTuple):
    """`number` of the invariant that was seen broken first, after so many seconds; or None."""

    mutation: Mutation
    number: int | None
    seconds: float
    live: bool
    what: str

    def row(self) -> str:
        if self.number is None:
            caught, when = "**not caught**", f"{self.seconds:.0f} s"
        else:
            end = "" if self.live else ", at the end"
            caught, when = str(self.number), f"{self.seconds:.0f} s{end}"
        name, faults, seed = self.mutation.name, self.mutation.faults, self.mutation.seed
        return f"| {name} | `{self.mutation.file}` | `{faults}`, {seed} | {caught} | {when} |"


def run(mutation: Mutation) -> Verdict:
    """Torture a mutated copy. Raises `NotThere`, and RuntimeError when torture itself breaks."""
    with _copy() as root:
        if mutation is not CONTROL:
            mutate(mutation, root)
        _check_import(root)
        found = _tortured(mutation, root)
    if not found["breaches"]:
        return Verdict(mutation, None, found["seconds"], False, "")
    first = min(found["breaches"], key=lambda breach: float(breach["seconds"]))
    return Verdict(mutation, first["number"], first["seconds"], first["live"], first["what"])


@contextmanager
def _copy() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="bank-mutant-"))
    try:
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, root / name, ignore=ignored)
            else:
                shutil.copy(source, root / name)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _environment(root: Path) -> dict[str, str]:
    """The roles are processes of their own: they have to find the copy first, too."""
    paths = [str(root), str(root / "examples" / "parcels")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _check_import(root: Path) -> None:
    words = [sys.executable, "-c", "import pipeline; print(pipeline.__file__)"]
    said = subprocess.run(words, cwd="/", env=_environment(root), capture_output=True, text=True)
    if not said.stdout.startswith(str(root)):
        raise RuntimeError(f"not the copy would run, but {said.stdout}{said.stderr}")


def _tortured(mutation: Mutation, root: Path) -> dict[str, Any]:
    path = root / "found.json"
    words = [sys.executable, "-m", "tests.torture", "--seed", str(mutation.seed)]
    words += ["--minutes", str(mutation.minutes), "--faults", mutation.faults]
    words += ["--settle", str(_SETTLE), "--json", str(path)]
    words += ["--application", mutation.application]
    said = subprocess.run(
        words,
        cwd=root,
        env=_environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    if not path.exists():
        raise RuntimeError(f"{mutation.name}: torture came to no verdict\n{said.stdout}")
    found: dict[str, Any] = json.loads(path.read_text())
    shutil.rmtree(found["folder"], ignore_errors=True)
    return found


def written(page: str, rows: dict[str, str]) -> str:
    """The page with these rows in the table, by mutation; the others stay."""
    head, _, rest = page.partition(BEGIN)
    table, _, tail = rest.partition(END)
    known = {line.split("|")[1].strip(): line for line in table.splitlines() if "|" in line}
    merged = {**known, **rows}
    title = (
        "| Mutation | File | Faults, seed | Caught by | After |\n| --- | --- | --- | --- | --- |\n"
    )
    lines = [merged[each.name] for each in MUTATIONS if each.name in merged]
    return head + BEGIN + title + "".join(f"{line}\n" for line in lines) + END + tail


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="parts of names with commas between")
    wanted = [part for part in parser.parse_args().only.split(",") if part]
    chosen = [m for m in MUTATIONS if not wanted or any(part in m.name for part in wanted)]
    with tempfile.TemporaryDirectory() as folder:  # all of them, before the first one runs
        for mutation in chosen:
            _dry(mutation, Path(folder))
    missed = 0
    if not wanted:
        control = run(CONTROL)
        print(f"without a mutation: {control.what or 'all holds'}", flush=True)
        missed += control.number is not None
    for mutation in chosen:
        verdict = run(mutation)
        print(f"{verdict.row()}\n    {verdict.what[:150]}", flush=True)
        missed += verdict.number is None
        PAGE.write_text(written(PAGE.read_text(), {mutation.name: verdict.row()}))
    print(f"{len(chosen)} mutations, {missed} not as it must be")
    return 1 if missed else 0


def _dry(mutation: Mutation, folder: Path) -> None:
    target = folder / mutation.file
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / mutation.file, target)
    mutate(mutation, folder)


if __name__ == "__main__":
    sys.exit(main())
