"""The demo in small: a scratch bank under load holds, and a demo that does not hold says so."""

import json
import random
from pathlib import Path

import pytest

from pipeline.cli.up import show_result
from pipeline.embedded.demo import Result, demo, scratch
from pipeline.embedded.startup_checks import port_taken
from pipeline.embedded.traffic import _creations, _mixed
from pipeline.operations.checker.report import CheckFigures, Report, Verdict
from pipeline.support.settings import Settings, load
from tests.harness import Role


async def test_a_small_demo_holds() -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(what: str, done: int, total: int) -> None:
        told[what] = done, total

    result = await demo(
        load({"BANK_PARTITIONS": "4"}), accounts=50, commands=500, seed=7, progress=progress
    )
    assert result.surprises == []
    assert result.report is not None
    assert [verdict.holds for verdict in result.report.verdicts] == [True] * 12, result.report
    assert not result.report.verdicts[5].figure.endswith(" 0 answered again")
    assert result.holds
    assert result.commands > 500, "what is held is captured or voided"
    assert result.rejected > 0
    assert result.report.figures.transfers > 0
    assert result.projected == result.events > 50
    assert result.lag == 0
    assert list(told) == [
        "starting",
        "opening accounts",
        "sending commands",
        "waiting for holds",
        "projecting",
        "checking",
        "stopping",
    ]
    assert all(done == total for done, total in told.values())
    assert result.folder is not None
    assert not result.folder.exists()


def test_the_same_seed_sends_the_same_commands() -> None:
    accounts = [f"account {number}" for number in range(20)]

    def sent(seed: int) -> list[object]:
        requests = _mixed(random.Random(seed), accounts, 300)
        return [request for request in requests if 404 not in request.expected]

    assert sent(3) == sent(3)
    assert sent(3) != sent(4)
    assert list(_creations(random.Random(3), 9)) == list(_creations(random.Random(3), 9))


def test_the_load_has_every_kind_and_hot_accounts() -> None:
    accounts = [f"account {number:03}" for number in range(200)]
    requests = list(_mixed(random.Random(1), accounts, 5000))
    assert {request.command.kind for request in requests} == {
        "deposit",
        "withdraw",
        "transfer",
        "owner",
        "freeze",
        "unfreeze",
        "close",
        "hold",
    }
    after = {request.then.kind for request in requests if request.then is not None}
    assert after == {"capture", "void", "reverse", "expire"}
    assert {422, 409, 404, 400} <= {s for request in requests for s in request.expected}
    text = json.dumps([request.body for request in requests])
    assert text.count("account 000") > 10 * text.count("account 150")


def test_a_scratch_bank_meets_no_other() -> None:
    one, other = scratch(load({})), scratch(load({}))
    try:
        assert one.data_dir != other.data_dir
        assert not port_taken("127.0.0.1", one.accounts_port)
        assert one.mongodb_url != load({}).mongodb_url
    finally:
        one.data_dir.rmdir()
        other.data_dir.rmdir()


async def test_another_application_has_no_demo() -> None:
    settings = Settings.model_validate({"application": "tests.apps.post:POST"})
    root = Path(__file__).parents[2]
    async with Role(settings, "bank", "demo", PYTHONPATH=str(root)) as started:
        assert await started.wait() == 2
        assert "BANK_APPLICATION: the demo is the bank's alone" in started.log()


FIGURES = CheckFigures(1, 1, 0, 1, 0, 0, 0.1)


@pytest.mark.parametrize(
    "broken",
    [
        Result(report=Report((Verdict(1, "money", False, "", 1, ("gone",)),), FIGURES)),
        Result(report=Report((Verdict(3, "history", None, ""),), FIGURES)),
        Result(report=Report((), FIGURES), lag=1),
        Result(report=Report((), FIGURES), surprises=["500"]),
        Result(),
    ],
)
def test_a_demo_that_does_not_hold_says_so(
    broken: Result, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken.folder = tmp_path
    assert not broken.holds
    show_result(broken)
    shown = capsys.readouterr().out
    assert "It does not hold." in shown
    assert str(tmp_path) in shown.replace("\n", "")
