"""The code of docs/testing.md, on the parcel of docs/aggregates.md, as it stands there."""

import re
from inspect import isawaitable, signature
from pathlib import Path
from typing import Any

from pipeline.model.aggregate import Decision
from tests.commands.library import LOAN, Lend

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


async def test_the_code_of_the_page_runs() -> None:
    there: dict[str, Any] = {
        **{"LOAN": LOAN, "Lend": Lend, "book": "Ulysses", "reader": "Ada"},
        "bought": Decision("CopyBought", {"title": "Ulysses", "level": 0}),
        "taken": Decision("CopyTaken", {"reader": "Ada"}),
        "borrowed": Decision("BookBorrowed", {"book": "Ulysses"}),
    }
    for code in [blocks("aggregates.md")[0], *blocks("testing.md")]:
        exec(compile(code, "testing.md", "exec"), there)
    tests = [each for name, each in there.items() if name.startswith("test_")]
    # The one with `bank` is run by `test_plugin.py`.
    alone = [each for each in tests if not signature(each).parameters]
    assert (len(alone), len(tests)) == (4, 5)
    for test in alone:
        if isawaitable(ran := test()):
            await ran
