"""Measures how the code of a checkout is laid out, to compare it with others.

    python scripts/house.py [FOLDER ...]

Prints one row for each folder, or for this repository if none is given. Only production code is
measured: packages at the top of the folder or of its `src/`, without tests, documentation,
examples and the modules that a protobuf compiler wrote.
"""

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_OTHER: Final = frozenset(
    {"tests", "test", "docs", "examples", "benchmarks", "scripts", "dev", "extra", "build"}
)
_COLUMNS: Final = (
    "checkout",
    "lines",
    "modules",
    "at the top",
    "imported by one",
    "comment lines",
    "median function",
)


@dataclass(frozen=True, slots=True)
class House:
    """What is measured of one checkout.

    `lines` counts all lines of Python, blank ones and comments included; `at_top` the modules that
    stand directly in the largest package, `__init__.py` included; `by_one` the modules that exactly
    one other module imports; `comments` the share of lines that hold a comment, blank lines left
    out; `function` the median length of a function in lines, its docstring included.
    """

    name: str
    lines: int
    modules: int
    at_top: int
    by_one: int
    comments: float
    function: float

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.lines:,}",
            str(self.modules),
            str(self.at_top),
            str(self.by_one),
            f"{self.comments:.1%}",
            f"{self.function:g}",
        )


def packages(folder: Path) -> list[Path]:
    """The top-level packages of production code."""
    roots = [root for root in (folder, folder / "src") if root.is_dir()]
    found = (each for root in roots for each in root.iterdir() if (each / "__init__.py").exists())
    return sorted(each for each in found if each.name not in _OTHER)


def modules(package: Path) -> dict[str, Path]:
    """The package's modules by their dotted names."""
    return {
        _dotted(path.relative_to(package.parent)): path
        for path in sorted(package.rglob("*.py"))
        if not _OTHER & {*path.relative_to(package).parts}
        and not path.stem.endswith(("_pb2", "_pb2_grpc"))
    }


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The known modules that a module imports anywhere, also within functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            for alias in node.names:
                child = f"{base}.{alias.name}"
                found.add(child if child in known else base)
    return {each for each in found if each in known} - {name}


def measure(folder: Path) -> House:
    """Measure one checkout; raises `ValueError` if it has no package."""
    homes = {each: modules(each) for each in packages(folder)}
    if not homes:
        raise ValueError(f"{folder} has no Python package")
    known = {name: path for home in homes.values() for name, path in home.items()}
    sources = {name: path.read_text(encoding="utf-8") for name, path in known.items()}
    importers: defaultdict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for each in imported(name, path, known):
            importers[each].add(name)
    sizes = {name: source.count("\n") for name, source in sources.items()}
    main = max(homes, key=lambda home: sum(sizes[name] for name in homes[home]))
    comments = sum(comment_lines(source) for source in sources.values())
    written = sum(bool(line.strip()) for each in sources.values() for line in each.splitlines())
    lengths = [length for source in sources.values() for length in function_lengths(source)]
    return House(
        folder.resolve().name,
        sum(sizes.values()),
        len(known),
        len(list(main.glob("*.py"))),
        Counter(len(names) for names in importers.values())[1],
        comments / written,
        median(lengths),
    )


def comment_lines(source: str) -> int:
    """How many lines hold a comment, alone or behind code; docstrings are none."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def function_lengths(source: str) -> Iterator[int]:
    """The lines of each function and method, from `def` to its last line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def table(houses: list[House]) -> str:
    """The measures as a Markdown table."""
    rows = [_COLUMNS, ("---", *["---:"] * (len(_COLUMNS) - 1)), *(each.cells() for each in houses)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _dotted(path: Path) -> str:
    parts = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
    return ".".join(parts)


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that `from … import` names, from the package on if it is relative."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    home = parts[: len(parts) - node.level + 1]
    return ".".join([*home, *([node.module] if node.module else [])])


if __name__ == "__main__":
    print(table([measure(Path(each)) for each in sys.argv[1:] or [str(ROOT)]]))
