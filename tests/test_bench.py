"""The benchmarks: what they report is formed rightly. Never how fast anything is."""

import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import redis.asyncio

from benchmarks import idle, ordinary, report
from benchmarks.__main__ import MEASURES, run
from benchmarks.apart import joined
from benchmarks.bank import NotEmpty, bank, given_urls
from benchmarks.bulks import documents_of
from benchmarks.checkout import HERE, Checkout, checkout
from benchmarks.figures import Figure, Ratio, Result, Spread
from benchmarks.history import SEED, Folds, History
from benchmarks.rounds import interleaved
from benchmarks.size import SIZES, TINY
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.support.settings import PREFIX, TEST_PREFIX, Settings
from tests.harness import LONG_LANE, Servers

PAGE = f"# Performance\n\nBefore.\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "docs" / "performance.md"
    path.parent.mkdir()
    path.write_text(PAGE)
    return path


async def test_a_small_run_is_reported(tmp_path: Path, page: Path) -> None:
    found = await run(["b"], TINY, {})
    latest = tmp_path / "results" / "latest.json"
    report.write(report.merged(report.empty(), "embedded", found), latest, page)

    kept = json.loads(latest.read_text())
    measure = kept["columns"]["embedded"]["measures"]["b"]
    figures = {name: each["median"] for name, each in measure["figures"].items()}
    assert all(len(each["rounds"]) == TINY.rounds for each in measure["figures"].values())
    assert all(value > 0 for value in figures.values())
    ratio = kept["ratios"]["forwarder / the slower of drain and publish"]
    slower = min(
        figures["bare drain of the change stream"], figures["bare atomic publish, 1000 each"]
    )
    assert ratio["measure"] == "b"
    assert ratio["embedded"]["value"] == pytest.approx(figures["forwarder"] / slower, abs=0.01)
    assert ratio["embedded"]["met"] is (ratio["embedded"]["value"] >= ratio["embedded"]["goal"])
    assert kept["columns"]["embedded"]["servers"].keys() == SERVER_BINARIES.keys()
    assert kept["columns"]["embedded"]["machine"].keys() == {"cores", "memory_gib", "python"}
    assert measure["load_average"].keys() == {"before", "after"}


@LONG_LANE
async def test_the_whole_bank_is_measured_small_and_large() -> None:
    found = (await run(["h"], TINY, {}))["measures"]["h"]
    rates = [found["figures"][f"HTTP, {events:,} events"] for events in TINY.events]
    assert all(len(each["rounds"]) == TINY.rounds for each in rates)
    ratio = found["ratios"]["HTTP, large bank / small bank"]
    assert ratio["value"] == pytest.approx(rates[1]["median"] / rates[0]["median"], rel=0.011)
    assert ratio["goal"] == 0.8


@LONG_LANE
async def test_measures_of_roles_take_turns_with_another_checkout(
    tmp_path: Path, page: Path
) -> None:
    """The other checkout is this one under another name: what counts is who starts the roles."""
    other = tmp_path / "before"
    other.symlink_to(report.ROOT, target_is_directory=True)
    found = await run(["k", "m"], TINY, {}, beside=Checkout(other, HERE.python))
    assert found["measures"].keys() == {"k", "m"}
    latest = tmp_path / "results" / "latest.json"
    report.write(report.merged(report.empty(), "embedded", found), latest, page)

    kept = json.loads(latest.read_text())
    for letter in "km":
        assert "before" not in kept["columns"]["embedded"]["measures"][letter]
        compared = kept["beside"]["embedded"][letter]
        assert compared["commits"].keys() == {"before", "now"}
        names = [row[0] for row in compared["rows"]]
        measure = kept["columns"]["embedded"]["measures"][letter]
        assert names == [*measure["ratios"], *measure["figures"]]
    assert "### (m) Reads, before and now, embedded" in report.tables(kept)


@LONG_LANE
@pytest.mark.parametrize("letter", "ijl")
async def test_measures_of_a_whole_bank(letter: str) -> None:
    found = (await run([letter], TINY, {}))["measures"][letter]
    assert all(len(each["rounds"]) == TINY.turns for each in found["figures"].values())
    (goal,) = (each["goal"] for each in found["ratios"].values() if "goal" in each)
    assert goal == {"i": 0.8, "j": 4.0, "l": 2.0}[letter]
    roles = {"worker", "forwarder", "accounts", "balances", *SERVER_BINARIES}
    if letter == "l":
        assert found["figures"].keys() == {*roles, idle.TOTAL}
    if letter == "j":
        assert {f"{each}, {ordinary.EVENLY}" for each in roles} <= found["figures"].keys()


@LONG_LANE
async def test_measures_of_this_process_are_taken_by_the_other_checkout_itself() -> None:
    found = (await run(["b"], TINY, {}, beside=HERE))["measures"]["b"]
    assert found["before"]["figures"].keys() == found["figures"].keys()
    assert len(found["figures"]["forwarder"]["rounds"]) == TINY.rounds


def test_a_commit_is_dirty_by_its_code_not_by_figures(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        named = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
        subprocess.run(["git", "-C", tmp_path, *named, *arguments], check=True)

    here = Checkout(tmp_path, tmp_path)
    assert here.commit == tmp_path.name
    (tmp_path / "docs").mkdir()
    code, figures = tmp_path / "code.py", tmp_path / "docs" / "performance.md"
    for each in (code, figures):
        each.write_text("before")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "before")
    committed = here.commit
    figures.write_text("now")
    assert here.commit == committed
    code.write_text("now")
    assert here.commit == f"{committed}-dirty"


def test_another_checkout_must_be_installed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make install"):
        checkout(tmp_path)


def test_another_checkout_is_told_only_settings_that_differ(tmp_path: Path) -> None:
    """It may not know those that are new, and would not start with them."""
    other = Checkout(tmp_path, tmp_path / "python")
    settings = Settings(partitions=3)
    told = {name for name in other.environment(settings) if name.startswith(PREFIX)}
    assert told == {f"{PREFIX}PARTITIONS"}
    assert f"{PREFIX}LEASE_SECONDS" in HERE.environment(settings)


async def test_a_server_that_holds_something_is_left_alone(servers: Servers) -> None:
    async with redis.asyncio.from_url(servers.redis_url) as client:
        await client.set("somebody's", "own")
        try:
            with pytest.raises(NotEmpty):
                async with bank({"redis": servers.redis_url}):
                    pass
            assert await client.get("somebody's") == b"own"
        finally:
            await client.flushall()


def test_servers_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVER_BINARIES:
        for prefix in (PREFIX, TEST_PREFIX):
            monkeypatch.delenv(f"{prefix}{name.upper()}_URL", raising=False)
    monkeypatch.setenv("BANK_MONGODB_URL", "mongodb://one")
    monkeypatch.setenv("BANK_NATS_URL", "nats://two")
    monkeypatch.setenv("BANK_TEST_NATS_URL", "nats://three nats://four")
    assert given_urls() == {"mongodb": "mongodb://one", "nats": "nats://three"}


# ---------------------------------------------------------------- the report


def test_what_was_found_in_turns_is_kept_until_it_is_measured_in_turns_again() -> None:
    run = _run("a", 90.0, commits={"before": "one", "now": "two"})
    slower = {"value": 0.5}
    before = {"figures": {"other": {"median": 50.0}}, "ratios": {"one / other": slower}}
    run["measures"]["a"]["before"] = {**before, "spreads": {}}
    first = report.merged(report.empty(), "embedded", run)
    second = report.merged(first, "embedded", _run("a", 70.0))
    assert second["columns"]["embedded"]["measures"]["a"]["ratios"]["one / other"]["value"] == 0.7
    text = report.tables(second)
    assert "### (a) Title, before and now, embedded" in text
    assert "| rounds in turns | goal or unit | one | two | times |" in text
    assert "| one / other | ≥ 0.8 | 0.5 | 0.90, met | 1.80 |" in text
    assert "| other | events/s | 50 | 100 | 2.00 |" in text


def _run(letter: str, value: float, **changes: Any) -> dict[str, Any]:
    """What a run of one measure found."""
    result = Result()
    one = result.add("one & only", "events/s", [value, value, 5 * value])
    result.compare("one / other", one, result.add("other", "events/s", [100.0]), 0.8)
    result.spreads.append(Spread("how long", [1.0, 2.0, 3.0]))
    about = {
        "title": "Title",
        "size": "tiny",
        "taken": "now",
        "load_average": {"before": 0.1, "after": 0.2},
    }
    measures = {letter: {**about, **result.json(), **changes}}
    return {
        "machine": {"cores": 2, "memory_gib": 4, "python": "3"},
        "servers": {},
        "measures": measures,
    }


def test_a_run_changes_its_own_measures_and_column_alone() -> None:
    first = report.merged(report.empty(), "embedded", _run("a", 90.0))
    second = report.merged(first, "embedded", _run("b", 70.0))
    third = report.merged(second, "real", _run("a", 50.0))
    embedded = third["columns"]["embedded"]["measures"]
    assert embedded["a"]["ratios"]["one / other"]["value"] == 0.9
    assert embedded["b"]["ratios"]["one / other"]["value"] == 0.7
    assert third["columns"]["real"]["measures"].keys() == {"a"}
    assert list(third["columns"]) == ["embedded", "real"]


def test_the_page_has_both_columns_between_its_markers(tmp_path: Path, page: Path) -> None:
    both = report.merged(report.empty(), "embedded", _run("a", 90.0))
    report.write(report.merged(both, "real", _run("a", 50.0)), tmp_path / "latest.json", page)
    text = page.read_text()
    assert text.startswith(PAGE.partition("old")[0])
    assert text.endswith(f"{report.END}\n\nAfter.\n")
    assert "old" not in text
    assert "| (a) one / other | ≥ 0.8 | 0.90, met | 0.50, **missed** |" in text
    assert "| one & only | events/s | 90 | 50 |" in text
    assert "busy" not in text
    drawn = ElementTree.fromstring(page.with_name(report.CHART).read_text())
    assert "one & only" in {each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")}


def test_writing_again_changes_nothing(tmp_path: Path, page: Path) -> None:
    found = report.merged(report.empty(), "embedded", _run("a", 90.0))
    report.write(found, tmp_path / "latest.json", page)
    once = page.read_text()
    report.write(report.read(tmp_path / "latest.json"), tmp_path / "latest.json", page)
    assert page.read_text() == once


def test_a_busy_machine_is_said_to_be_one() -> None:
    found = _run("a", 90.0, load_average={"before": 7.5, "after": 7.5})
    text = report.tables(report.merged(report.empty(), "embedded", found))
    assert "load average 7.5 before it. **The machine was busy with other work" in text


def test_what_is_kept_is_what_the_page_shows() -> None:
    """The committed page was written by the command, not by hand."""
    kept, text = report.read(), report.PAGE.read_text()
    shown = text.partition(report.BEGIN)[2].partition(report.END)[0]
    assert shown.strip() == report.tables(kept).strip()


# ---------------------------------------------------------------- figures and rounds


def test_a_median_stands_for_the_rounds() -> None:
    assert Figure("", "", [1.0, 100.0, 2.0, 3.0, 0.0]).median == 2.0


@pytest.mark.parametrize(("percent", "value"), [(50, 500), (90, 900), (99, 990), (99.9, 999)])
def test_percentiles(percent: float, value: float) -> None:
    assert Spread("", list(range(1000, 0, -1))).percentile(percent) == value


def test_a_percentile_of_few_samples_is_one_of_them() -> None:
    assert Spread("", [3.0]).percentile(99.9) == 3.0


@pytest.mark.parametrize(
    ("value", "most", "met"), [(0.8, False, True), (0.7, False, False), (0.9, True, False)]
)
def test_a_goal_is_met_or_not(value: float, most: bool, met: bool) -> None:
    assert Ratio("", value, 0.8, most).met is met
    assert Ratio("", value).met is None


async def test_rounds_take_turns_and_the_first_one_does_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> Any:
        async def once() -> float:
            order.append(name)
            return float(len(order))

        return once

    both = {"one": measure("one"), "two": measure("two")}
    found = await interleaved(both, 2)
    assert order == ["two", "one", "one", "two", "two", "one"]
    assert found == {"one": [3.0, 6.0], "two": [4.0, 5.0]}
    assert await interleaved(both, 1, uncounted=0) == {"one": [8.0], "two": [7.0]}


def test_rounds_that_a_checkout_took_by_itself_are_one_measure() -> None:
    def taken(value: float) -> dict[str, Any]:
        result = Result(notes=[f"at {value}"])
        result.compare("a / b", result.add("a", "", [value]), result.add("b", "", [2.0]), 1.0)
        result.spreads.append(Spread("late", [value, 10 * value]))
        return result.json()

    found = joined([taken(1.0), taken(4.0), taken(3.0)])
    assert found.figure("a").rounds == [1.0, 4.0, 3.0]
    assert found.spreads[0].samples == [1.0, 10.0, 4.0, 40.0, 3.0, 30.0]
    assert (found.ratios[0].value, found.ratios[0].goal, found.ratios[0].met) == (1.5, 1.0, True)
    assert found.notes == ["at 3.0"]


# ---------------------------------------------------------------- what goes in


def test_a_seed_gives_the_same_history() -> None:
    def told(seed: int) -> list[Any]:
        keys = ("account_id", "version", "kind", "body")
        return [tuple(event[key] for key in keys) for event in History(50, seed).next(300)]  # type: ignore[literal-required]

    assert told(SEED) == told(SEED)
    assert told(SEED) != told(SEED + 1)


def test_a_few_accounts_have_most_events() -> None:
    history = History(1000)
    history.next(5000)
    counts = sorted(history.versions.values(), reverse=True)
    assert sum(counts[:100]) > 2500
    assert sum(count > 0 for count in counts) > 500


def test_bulks_end_with_the_documents_of_the_whole_history() -> None:
    events = History(20).next(400)
    last = {each["id"]: each for each in documents_of(events, 8, 10, Folds())}
    assert last == {each["id"]: each for each in Folds().batch(events)}


def test_every_size_is_of_medians_and_of_workers_that_share_evenly() -> None:
    assert set(MEASURES) == set("abcdefghijklm")
    for size in SIZES.values():
        assert all(8 % workers == 0 for workers in size.workers)
    assert {size.rounds for size in SIZES.values() if size is not TINY} == {5}
