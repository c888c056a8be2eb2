"""Measures that another checkout takes by itself, in turns with this one.

They are those in which parts of the bank run in the process of the benchmark.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.checkout import HERE, Checkout
from benchmarks.figures import Ratio, Result, Spread
from benchmarks.rounds import interleaved
from benchmarks.size import Size

_ONE_ROUND: Final = """
import asyncio, dataclasses, json, sys
from benchmarks.__main__ import run
from benchmarks.size import SIZES
letter, size, given, path = sys.argv[1:]
size = dataclasses.replace(SIZES[size], rounds=1)
found = asyncio.run(run([letter], size, json.loads(given)))
open(path, "w").write(json.dumps(found["measures"][letter]))
"""


async def in_turns(letter: str, size: Size, given: Mapping[str, str], beside: Checkout) -> Result:
    """The result of rounds that each checkout takes with its own benchmark, which starts its own
    servers where none are given; `before` has those of the one beside this one."""
    turns = {each: partial(_round, each, letter, size, given) for each in (beside, HERE)}
    found = await interleaved(turns, size.rounds, uncounted=0)  # each begins with one of its own
    result = joined(found[HERE])
    result.before = joined(found[beside])
    return result


def joined(rounds: Sequence[Mapping[str, Any]]) -> Result:
    """One result of several measures of one round each, as they are reported."""
    first, result = rounds[0], Result(notes=list(rounds[-1]["notes"]))
    for name, about in first["figures"].items():
        result.add(name, about["unit"], [each["figures"][name]["median"] for each in rounds])
    for name in first["spreads"]:
        samples = [sample for each in rounds for sample in each["spreads"][name]["samples"]]
        result.spreads.append(Spread(name, samples))
    for name, about in first["ratios"].items():
        value = statistics.median(each["ratios"][name]["value"] for each in rounds)
        result.ratios.append(Ratio(name, value, about.get("goal"), about.get("at") == "most"))
    return result


async def _round(
    checkout: Checkout, letter: str, size: Size, given: Mapping[str, str]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bank-bench-") as folder:
        path = Path(folder) / "found.json"
        told = orjson.dumps(given).decode()
        process = await asyncio.create_subprocess_exec(
            *(checkout.python, "-c", _ONE_ROUND, letter, size.name, told, path),
            cwd=checkout.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"({letter}) by {checkout.folder}:\n{said.decode()[-3000:]}")
        return dict(orjson.loads(path.read_bytes()))
