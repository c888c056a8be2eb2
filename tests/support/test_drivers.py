"""Each server's client is made in the `driver.py` of its room, and nowhere else."""

import ast
import functools
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"eventstore", "messaging", "coordination", "search"}
SERVERS = {"mongodb", "nats", "redis", "elasticsearch"}
MADE_BY = {
    "AsyncIOMotorClient",
    "MongoClient",
    "AsyncMongoClient",
    "AsyncElasticsearch",
    "Elasticsearch",
    "Redis",
    "StrictRedis",
    "from_url",
    "NATS",
    "Client",
    "FastPathClient",
}
DRIVERS = {"nats", "redis", "redis.asyncio", "motor", "elasticsearch", "pymongo"}
URLS = {f"{server}_url" for server in SERVERS}


def found(look: Callable[[ast.AST], set[str]]) -> dict[str, set[str]]:
    """What is found in each module of the bank but the drivers; none is left out."""
    paths = [path for package in ("pipeline", "api") for path in (ROOT / package).rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): names
        for path in paths
        if path.name != "driver.py" and (names := look(ast.parse(path.read_text())))
    }


def called(tree: ast.AST) -> set[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    return names | {call.attr for call in calls if isinstance(call, ast.Attribute)}


def imported(tree: ast.AST) -> set[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    return {alias.name for each in imports for alias in each.names}


def read(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_nobody_else_makes_a_client() -> None:
    assert found(lambda tree: called(tree) & MADE_BY) == {}
    assert found(lambda tree: imported(tree) & DRIVERS) == {}


def importers(*drivers: str) -> set[str]:
    """The modules that import one of the drivers or a part of it, anywhere in the repository."""
    return {path for path, names in packages().items() if names & set(drivers)}


@functools.cache
def packages() -> dict[str, set[str]]:
    """The first part of the name of every module that is imported, by module of the repository."""
    folders = ("pipeline", "api", "benchmarks", "scripts", "tests")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): packages_of(ast.parse(path.read_text())) for path in paths}


def packages_of(tree: ast.AST) -> set[str]:
    origins = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in (*imported(tree), *origins)}


def test_motor_is_imported_in_one_module_alone() -> None:
    """It is at the end of its life: what takes its place has one module to change."""
    assert importers("motor") == {"pipeline/eventstore/driver.py"}


@pytest.mark.parametrize(
    ("drivers", "package"),
    [(("pymongo", "bson"), "pipeline/eventstore/"), (("elasticsearch",), "pipeline/search/")],
)
def test_a_store_and_its_client_alone_import_its_driver(
    drivers: tuple[str, ...], package: str
) -> None:
    ours = {path for path in importers(*drivers) if path.startswith(("pipeline/", "api/"))}
    foreign = {each for each in ours if not each.startswith(package)}
    assert len(ours) > 5
    assert foreign == set()


def test_nobody_goes_by_a_url_alone() -> None:
    """A client made of `settings.nats_url` would have neither credentials nor certificates."""
    assert found(lambda tree: read(tree) & URLS) == {}


def test_each_server_has_its_place() -> None:
    drivers = {path.parent.name: path for path in (ROOT / "pipeline").rglob("driver.py")}
    assert drivers.keys() == ROOMS
    for room, path in drivers.items():
        assert called(ast.parse(path.read_text())) & MADE_BY, room
