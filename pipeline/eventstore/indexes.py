"""The two unique indexes of `events`, and whether what MongoDB has in their place can be trusted.

`account_version` gives optimistic concurrency; `idempotency_key_sparse`, one effect for a key. Both
serve nearly all queries, too. Pure: `guards.py` looks at the server, `index_builder.py` builds.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from pymongo import ASCENDING, IndexModel

Index: TypeAlias = Mapping[str, Any]
"""An index as `listIndexes` describes it with `includeBuildUUIDs`."""

ORDER: Final = [("slot", ASCENDING), ("account_id", ASCENDING), ("version", ASCENDING)]
KEY: Final = "idempotency_key"
NEW_KEYS: Final = f"{KEY}_sparse"
OLD_KEYS: Final = KEY
"""The partial index of earlier versions. It has the same documents, but the embedded server uses no
partial index for look-ups."""

VERSIONS: Final = IndexModel(ORDER, unique=True, name="account_version")
KEYS: Final = IndexModel([(KEY, ASCENDING)], unique=True, sparse=True, name=NEW_KEYS)
GUARDS: Final = (VERSIONS, KEYS)
MARKERS: Final = "events_building_"

_OLD: Final = IndexModel(
    [(KEY, ASCENDING)], unique=True, name=OLD_KEYS, partialFilterExpression={KEY: {"$exists": True}}
)
_FLAGS: Final = ("unique", "sparse", "hidden")
_SAME: Final = ("hidden", "expireAfterSeconds")
"""Options that don't tell two indexes apart."""
_VALUES: Final = ("partialFilterExpression", "collation", "expireAfterSeconds")


def name_of(guard: IndexModel) -> str:
    return str(guard.document["name"])


def markers_of(guard: IndexModel) -> str:
    """How the names of the collections begin that mark a build of it (`build_markers.py`)."""
    return f"{MARKERS}{name_of(guard)}_"


def being_built(index: Index, guard: IndexModel) -> bool:
    """Whether it is to be the guard, and MongoDB is building it."""
    return "spec" in index and not [*_differences(index["spec"], guard)]


def fields_of(guard: IndexModel) -> list[str]:
    """The fields of its key, in order."""
    return [*guard.document["key"]]


def named(guard: IndexModel, name: str) -> IndexModel:
    """The same index by another name."""
    options = {option: value for option, value in guard.document.items() if option != "key"}
    return IndexModel([*guard.document["key"].items()], **{**options, "name": name})


def trusted(index: Index, guard: IndexModel) -> bool:
    """Whether the index, by whatever name, does what the guard is for."""
    either = (KEYS, _OLD) if guard is KEYS else (guard,)
    return any(not [*_differences(index, each)] for each in either)


def is_old(index: Index) -> bool:
    """Whether it is the partial index of keys that earlier versions made."""
    return index.get("name") == OLD_KEYS and not [*_differences(index, _OLD)]


def wrong(index: Index, guard: IndexModel) -> bool:
    """Whether it has the guard's name or its key, but can't be trusted: nobody needs it."""
    if "spec" in index or trusted(index, guard):
        return False
    return index["name"] == name_of(guard) or in_the_way(index, guard)


def in_the_way(index: Index, guard: IndexModel) -> bool:
    """Whether MongoDB takes the two for the same index, so that only one of them can be there."""
    differing = [each for each in _differences(index, guard) if not each.startswith(_SAME)]
    return "spec" not in index and not differing


def faults(
    collection: Mapping[str, Any] | None, indexes: Iterable[Index], markers: Iterable[str] = ()
) -> dict[str, str]:
    """What is wrong, by the name of the guard. `collection`: as `listCollections` describes it;
    `markers`: the names of the collections that mark a build.

    Empty if both guards can be trusted, and nothing on the server removes events.
    """
    there, markers = [*indexes], [*markers]
    found = {
        name_of(guard): _fault(there, guard)
        for guard in GUARDS
        if not any(trusted(index, guard) for index in there)
    }
    for guard in GUARDS:
        if any(marker.startswith(markers_of(guard)) for marker in markers):
            found[name_of(guard)] = f"the index {name_of(guard)} is being built"
    for index in there:
        if index.get("expireAfterSeconds") is not None:
            found.setdefault(str(index["name"]), f"the index {index['name']} makes events expire")
    if collection is not None and (kind := _kind(collection)) != "collection":
        found["events"] = f"`events` is a {kind}"
    return found


def parts(indexes: Iterable[Index], markers: Iterable[str]) -> dict[str, str]:
    """The guards that are listed as whole, though a marker says that they are being built: by name,
    why no query can be trusted. The embedded server has a part of an index after it has died in a
    build, and answers by that part."""
    there, markers = [*indexes], [*markers]
    return {
        name_of(guard): f"the index {name_of(guard)}, which is being built, may lack events"
        for guard in GUARDS
        if any(marker.startswith(markers_of(guard)) for marker in markers)
        and any(trusted(index, guard) for index in there)
    }


def _kind(collection: Mapping[str, Any]) -> str:
    if collection.get("options", {}).get("capped"):
        return "capped collection, which drops its oldest events"
    return str(collection.get("type", "collection"))


def _fault(there: list[Index], guard: IndexModel) -> str:
    name = name_of(guard)
    if any(being_built(index, guard) for index in there):
        return f"the index {name} is being built"
    for index in there:
        if index.get("name") == name or (_same_key(index, guard) and index.get("unique")):
            why = ", ".join(_differences(index, guard))
            return f"the index {index['name']} can't be trusted ({why})"
    return f"the index {name} is missing"


def _differences(index: Index, guard: IndexModel) -> Iterator[str]:
    """Where the index is not what the guard should be. One that is being built has all in `spec`,
    and guards nothing yet."""
    if "spec" in index:
        yield "being built"
        return
    wanted = guard.document
    if not _same_key(index, guard):
        yield f"key: {dict(index['key'])}"
    for flag in _FLAGS:
        if bool(index.get(flag)) != bool(wanted.get(flag)):
            yield f"{flag}: {bool(index.get(flag))}"
    for option in _VALUES:
        if index.get(option) != wanted.get(option):
            yield f"{option}: {index.get(option)}"


def _same_key(index: Index, guard: IndexModel) -> bool:
    return [*index.get("key", {}).items()] == [*guard.document["key"].items()]
