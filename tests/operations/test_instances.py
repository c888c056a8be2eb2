"""Who answers, who does not and who has ended, by a clock of the test's own; and the commands."""

from typing import Any

import pytest

from pipeline.operations.status import instances as status
from pipeline.operations.status.commands import Commands
from pipeline.operations.status.instances import FIRST, Instances
from pipeline.operations.status.probe import Unknown
from pipeline.support.metrics import SECONDS
from pipeline.support.self_report import Answer, answer_of


class Fleet:
    """What is remembered of these instances, asked once a second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.instances = Instances(lambda: self.now)

    def second(self, *answers: Answer, nats: bool = True) -> dict[str, str]:
        """Ask, have those answer, and look; the states by name."""
        self.now += 1.0
        if nats:
            self.instances.asked()
            for each in answers:
                self.instances.answered(each)
        found, self.unknown = self.instances.read(None if nats else Unknown("down", "NATS"))
        return {each.name: each.state for each in found}

    def commands(self) -> Commands:
        return self.instances.commands(self.unknown)


def answer(name: str, role: str = "worker", **changes: Any) -> Answer:
    told = {"missing": {}, "warnings": {}, "done": {}, "durations": [], "id": name, **changes}
    return Answer(role=role, name=name, **told)


BALANCES = answer("b", "balances")


def test_one_late_answer_is_no_silence_and_two_are() -> None:
    fleet, worker = Fleet(), answer("w")
    assert fleet.second(BALANCES, worker) == {"b": "ready", "w": "ready"}
    for _ in range(3):  # a pause, and then all at once
        assert fleet.second(BALANCES)["w"] == "ready"
    assert fleet.second(BALANCES, worker)["w"] == "ready"
    for _ in range(3):
        assert fleet.second(BALANCES)["w"] == "ready"
    assert fleet.second(BALANCES) == {"b": "ready", "w": "silent"}
    assert fleet.second(BALANCES, worker)["w"] == "ready"


def test_who_says_goodbye_has_ended_and_is_not_called_silent() -> None:
    fleet = Fleet()
    fleet.second(BALANCES, answer("w"))
    fleet.instances.ended("w")
    assert {fleet.second(BALANCES)["w"] for _ in range(10)} == {"ended"}
    fleet.instances.ended("of another life")
    assert fleet.second(BALANCES, answer("w", id="another life")) == {"b": "ready", "w": "ready"}


def test_an_answer_that_comes_after_the_goodbye_makes_nobody_silent() -> None:
    fleet = Fleet()
    fleet.second(BALANCES, answer("w"))
    fleet.instances.ended("w")
    fleet.instances.answered(answer("w"))
    assert {fleet.second(BALANCES)["w"] for _ in range(10)} == {"ended"}


def test_two_processes_of_one_name_stand_side_by_side() -> None:
    fleet = Fleet()
    one, other = (answer("w", id=each, done={"": 0.0}) for each in ("1", "2"))
    for _ in range(3):
        fleet.second(BALANCES, one, other)
    assert shown(fleet) == [("b", "ready"), ("w", "ready"), ("w", "ready")]
    for _ in range(5):
        fleet.second(BALANCES, one)
    assert shown(fleet) == [("b", "ready"), ("w", "ready"), ("w", "silent")]


def test_a_process_takes_the_place_of_the_killed_one_whose_name_it_has() -> None:
    fleet = Fleet()
    fleet.second(BALANCES, answer("w", id="1"))
    for _ in range(2):
        fleet.second(BALANCES, answer("w", id="2"))
        assert "silent" not in dict(shown(fleet)).values()
    assert shown(fleet) == [("b", "ready"), ("w", "ready")]


def shown(fleet: Fleet) -> list[tuple[str, str]]:
    return [(each.name, each.state) for each in fleet.instances.read(None)[0]]


def test_when_nobody_was_ever_heard_that_is_said() -> None:
    fleet = Fleet()
    fleet.second()
    assert fleet.unknown == FIRST
    for _ in range(4):
        fleet.second()
    assert fleet.unknown == "NATS carries no answers"
    for _ in range(4):
        fleet.second(BALANCES)
    assert fleet.unknown is None


class BrokenQuestions:
    """Nobody can listen at the first try."""

    opened = asked = 0

    def __init__(self, *_: object) -> None: ...

    async def open(self) -> None:
        type(self).opened += 1
        if self.opened == 1:
            raise TimeoutError

    async def ask(self) -> None:
        type(self).asked += 1


async def test_whoever_could_not_listen_at_first_listens_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "Questions", BrokenQuestions)
    monkeypatch.setattr(status, "_GATHER_SECONDS", 0.01)
    js: Any = None
    instances = Instances()
    with pytest.raises(TimeoutError):
        await instances.ask(js)
    await instances.ask(js)
    assert (BrokenQuestions.opened, BrokenQuestions.asked) == (2, 1)


def test_who_lacks_something_says_what() -> None:
    fleet = Fleet()
    fleet.second(
        answer("f", "forwarder", missing={"nats": ""}), answer("w", missing=None), BALANCES
    )
    found, _ = fleet.instances.read(None)
    assert [(each.role, each.state, each.detail) for each in found] == [
        ("balances", "ready", None),
        ("forwarder", "waiting", "Waiting for nats."),
        ("worker", "unknown", None),
    ]


def test_while_nats_is_away_nobody_is_called_silent() -> None:
    fleet, worker = Fleet(), answer("w")
    fleet.second(BALANCES, worker)
    for _ in range(10):
        assert set(fleet.second(nats=False).values()) == {"unknown"}
    assert fleet.unknown == "down"
    for _ in range(9):  # all connect again
        assert fleet.second(BALANCES)["w"] != "silent"
    assert [fleet.second(BALANCES)["w"] for _ in range(4)][-1] == "silent"


def test_when_nobody_at_all_answers_it_is_nats() -> None:
    fleet = Fleet()
    fleet.second(BALANCES, answer("w"))
    for _ in range(4):
        states = fleet.second()
    assert states == {"b": "unknown", "w": "unknown"}
    assert fleet.unknown == "NATS carries no answers"


def test_it_is_forgotten_after_some_minutes() -> None:
    fleet = Fleet()
    fleet.second(BALANCES, answer("w"))
    fleet.now += 700
    assert fleet.second(BALANCES) == {"b": "ready"}


def test_the_commands_of_the_last_minute() -> None:
    fleet = Fleet()
    assert fleet.second(BALANCES) == {"b": "ready"}
    assert fleet.commands().unknown
    for second in range(100):
        quick, all_of_them = float(99 * second), float(100 * second)
        durations = [quick if bound < 0.25 else all_of_them for bound in SECONDS] + [all_of_them]
        done = {"accepted": 90.0 * second, "insufficient-funds": 10.0 * second}
        fleet.second(BALANCES, answer("a", "accounts", done=done, durations=durations))
    found = fleet.commands()
    assert (found.rate, found.unknown) == (100.0, None)
    assert list(found.outcomes) == ["accepted", "insufficient-funds"]
    assert 55 * 90 <= found.outcomes["accepted"] == 9 * found.outcomes["insufficient-funds"] <= 5400
    assert found.p50_ms is not None
    assert found.p99_ms is not None
    assert 0 < found.p50_ms <= 1.0
    assert found.p50_ms < found.p99_ms <= 250.0
    fleet.now += 61
    fleet.second(BALANCES)
    assert fleet.commands().rate is None
    assert fleet.commands().unknown


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b'{"id": "x", "role": "king"}', b'{"done": {"": NaN}}', b"\xff"]
)
def test_what_is_no_answer_is_passed_over(data: bytes) -> None:
    assert answer_of(data) is None
