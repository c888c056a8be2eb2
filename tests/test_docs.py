"""What the pages of docs/ and the README name exists: files, modules, and what is in them."""

import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import house  # noqa: E402
import rooms  # noqa: E402

PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
_PLACES = "pipeline|api|tests|scripts|benchmarks|deploy|docs|examples"
_PATH = re.compile(rf"(?<![\w./$-])(?:{_PLACES})/[\w./{{}},-]*")
_DOTTED = re.compile(r"`((?:pipeline|api)(?:\.\w+)+)`")
_NAME = re.compile(r"`(?:\w+\.)*([A-Z][a-z]+(?:[A-Z][a-z]+)+|_?[a-z]+(?:_[a-z]+)+)(?:\([^`]*\))?`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
_OTHERS = re.compile(r"deploy/(?:bank-forwarder|secure/made/.*|kubernetes/overlays/mine.*)")
"""What a reader makes, or a container when it starts; and a Deployment's name."""


def missing_paths(text: str) -> list[str]:
    """Paths of the repository that a text names and that are not there; `{a,b}` stands for two."""
    found = (each.rstrip(".,") for each in _PATH.findall(text))
    return [path for each in found for path in _spread(each) if not (ROOT / path).exists()]


def missing_names(text: str) -> list[str]:
    """Backticked `package.module` and `package.module.NAME` that can't be imported."""
    return [each for each in _DOTTED.findall(text) if not _importable(each)]


def unknown_words(text: str) -> list[str]:
    """Backticked CamelCase and snake_case names that no source has; metrics have a test."""
    return sorted(
        each for each in {*_NAME.findall(text)} - _words() if not each.startswith("bank_")
    )


@cache
def _words() -> frozenset[str]:
    """Every word of the sources and of what is deployed."""
    places = ("pipeline", "api", "benchmarks", "deploy", "examples")
    found = (path for name in places for path in (ROOT / name).rglob("*"))
    texts = (
        path.read_text() for path in found if path.suffix in (".py", ".yaml", ".json", ".js", ".sh")
    )
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def broken_links(page: Path) -> list[str]:
    """Links of a page to files that are not there, or to headings that their page has not."""
    broken = []
    for name, heading in _LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in _headings(target)):
            broken.append(f"{name}#{heading}")
    return broken


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall("^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


def _spread(path: str) -> list[str]:
    if (found := re.search(r"\{([^}]*)\}", path)) is None:
        return [path]
    before, after = path[: found.start()], path[found.end() :]
    return [before + each + after for each in found.group(1).split(",")]


def _importable(dotted: str) -> bool:
    try:
        import_module(dotted)
    except ImportError:
        module, _, name = dotted.rpartition(".")
        try:
            return hasattr(import_module(module), name)
        except ImportError:
            return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    lost = [each for each in missing_paths(text) if not _OTHERS.fullmatch(each)]
    assert (lost, missing_names(text), broken_links(page)) == ([], [], [])
    assert unknown_words(text) == []


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    text = "`pipeline/eventstore/nowhere.py`, `pipeline/model/{events,nothing}.py`, `api/http`"
    assert missing_paths(text) == ["pipeline/eventstore/nowhere.py", "pipeline/model/nothing.py"]
    names = "`pipeline.model.projection.Projection` `pipeline.model.projection.VERSION` `api.no`"
    assert missing_names(names) == ["pipeline.model.projection.VERSION", "api.no"]
    assert unknown_words("`Nowhere` `NoSuchThing` `raise_epoch(js)` `raise_lid`") == [
        "NoSuchThing",
        "raise_lid",
    ]
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](#one-two) [b](page.md#three) [c](none.md) [d](https://x.org)")
    assert broken_links(page) == ["page.md#three", "none.md#"]


# What stands behind a file in the tables of the architecture: `file.py`, then what is in it.
_IN_FILE = re.compile(r"`((?:pipeline|api)/[\w/]+\.py)`: ((?:`[\w.]+`(?:, | and )?)+)")


def test_the_architecture_names_what_is_in_the_files() -> None:
    found = [
        (path, name)
        for page in ("architecture.md", "glossary.md")
        for path, names in _IN_FILE.findall((ROOT / "docs" / page).read_text())
        for name in re.findall(r"`([\w.]+)`", names)
    ]
    assert len(found) > 40
    lost = [(path, name) for path, name in found if not _defines(ROOT / path, name)]
    assert lost == []


def _defines(path: Path, name: str) -> bool:
    """Whether a module has a class, a method (`Class.method`), a function or a constant."""
    value: object = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def test_the_drawing_shows_the_imports_as_they_are() -> None:
    drawn = rooms.drawing(rooms.imports())
    assert rooms.DRAWING.read_text() == drawn, "run: python scripts/rooms.py"


def test_the_drawing_leaves_out_what_other_lines_stand_for() -> None:
    assert rooms.direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {
        "a": {"b"},
        "b": {"c"},
        "c": set(),
    }
    assert rooms.room_of("pipeline.agents.rebuild.build") == "agents"
    assert rooms.room_of("pipeline") == ""


def test_a_checkout_is_measured(tmp_path: Path) -> None:
    package = tmp_path / "src" / "shop"
    (package / "cart").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "price.py").write_text("# Why.\n\ndef of():\n    return 1  # whole\n")
    (package / "till.py").write_text("from .price import of\nfrom . import cart\n")
    (package / "cart" / "__init__.py").write_text("from ..price import of\n")
    (package / "made_pb2.py").write_text("x = 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("import shop\n")

    measured = house.measure(tmp_path)

    assert (measured.lines, measured.modules, measured.at_top) == (7, 4, 4)
    assert measured.by_one == 1  # `cart`; `price` has two importers
    assert measured.comments == pytest.approx(2 / 6)
    assert measured.function == 2
    with pytest.raises(ValueError, match="no Python package"):
        house.measure(tmp_path / "tests")
