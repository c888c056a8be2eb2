"""When a server is called slow, and when down."""

from pipeline.operations.status.probe import Unknown
from pipeline.operations.status.servers import Verdicts

LATE = Unknown("Redis does not answer", "Redis")
AWAY = Unknown("Redis does not answer", "Redis", away=True)
KNOWN = Unknown("there is no stream")


def test_one_late_look_is_slow_and_two_are_silent() -> None:
    verdicts = Verdicts()
    assert verdicts.judge("redis", 0.0, 1).state == "up"
    for _ in range(2):
        slow = verdicts.judge("redis", 1.0, LATE)
        assert (slow.state, slow.up, slow.detail) == ("slow", True, "Redis does not answer")
        assert verdicts.judge("redis", 2.0, 1).state == "up"
    verdicts.judge("redis", 3.0, LATE)
    silent = verdicts.judge("redis", 4.0, LATE)
    assert (silent.state, silent.up, silent.detail) == ("silent", False, "Redis does not answer")
    assert verdicts.judge("redis", 5.0, 1).state == "up"


def test_where_nobody_listens_it_is_down_until_it_answers() -> None:
    verdicts = Verdicts()
    looks = (AWAY, LATE, AWAY, LATE)  # a look may be over before the driver knows
    states = [verdicts.judge("redis", 1.0, each).state for each in looks]
    assert states == ["slow", "down", "down", "down"]
    assert verdicts.judge("redis", 2.0, 1).state == "up"
    states = [verdicts.judge("redis", 3.0, each).state for each in (LATE, LATE, AWAY)]
    assert states == ["slow", "silent", "down"]


def test_what_answers_one_question_of_a_look_is_up() -> None:
    verdicts = Verdicts()
    found = {verdicts.judge("redis", 1.0, LATE, 1) for _ in range(5)}
    assert {(each.state, each.detail) for each in found} == {("up", "Redis does not answer")}
    assert verdicts.judge("nats", 1.0, KNOWN).state == "up"


def test_what_somebody_has_just_read_of_it_is_not_down() -> None:
    read_at = 100.0
    verdicts = Verdicts({"elasticsearch": lambda: read_at})
    late = Unknown("Elasticsearch does not answer", "Elasticsearch")
    assert {verdicts.judge("elasticsearch", 101.0, late).state for _ in range(5)} == {"slow"}
    found = [verdicts.judge("elasticsearch", 110.0, late).state for _ in range(3)]
    assert found == ["slow", "silent", "silent"]
    read_at = 120.0
    assert verdicts.judge("elasticsearch", 119.0, late).state == "slow"
