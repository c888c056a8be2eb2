"""What happened between readings of the pipeline: told once, and never guessed."""

from typing import Any, Final

from pipeline.operations.status.happenings import ALREADY, Change, Changes, Happening

SERVER: Final = {"name": "nats", "up": True, "detail": None}
REBUILD: Final = {"id": "1", "projection": "balance", "state": "running", "reason": None}
BALANCE: Final = {
    **{"projection": "balance", "parked": 0, "newest_parked": []},
    **{"lag_seconds": 0.0, "alarm": None},
}
ROLE: Final = {"role": "accounts", "name": "a1", "state": "ready", "detail": None}


def reading(second: int, *owners: str | None, **changes: Any) -> dict[str, Any]:
    """A reading of a bank that is well, but for the changes."""
    return {
        "at": f"2026-11-27T14:00:{second:02}.000Z",
        "servers": [SERVER],
        "forwarder": {"leader": "f1", "unknown": None},
        "workers": [],
        "partitions": [
            {"partition": number, "owner": owner, "owner_unknown": None}
            for number, owner in enumerate(owners)
        ],
        "projected": [BALANCE],
        "instances": [],
        "instances_unknown": None,
        "rebuild": None,
        **changes,
    }


def happened(changes: Changes, now: dict[str, Any]) -> list[Happening]:
    return [each.happening for each in changes.after(now)]


def told(*readings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Tone, sentence and detail of what happened in the course of these."""
    changes = Changes()
    return [(e.tone, e.what, e.detail) for each in readings for e in happened(changes, each)]


def test_a_server_that_was_away() -> None:
    changes, away = Changes(), {**SERVER, "up": False, "detail": "no answer"}
    assert changes.after(reading(0)) == changes.after(reading(1)) == []
    [down] = happened(changes, reading(2, servers=[away]))
    assert (down.tone, down.what, down.detail) == ("bad", "NATS is down.", "no answer")
    assert (down.kind, down.about, down.at) == ("server", "nats", "2026-11-27T14:00:02.000Z")
    assert changes.after(reading(3, servers=[{**away, "detail": "still none"}])) == []
    [up] = happened(changes, reading(14, servers=[SERVER]))
    assert (up.tone, up.what, up.seconds) == ("good", "NATS answers again.", 12.0)
    [silent] = happened(changes, reading(15, servers=[{**away, "state": "silent"}]))
    assert (silent.tone, silent.what) == ("bad", "NATS does not answer.")


def test_what_is_not_known_is_no_change() -> None:
    unknown = {"leader": None, "unknown": "Redis is silent"}
    unseen = {**BALANCE, "parked": None, "lag_seconds": None}
    hidden = reading(1, None, forwarder=unknown, projected=[unseen])
    hidden["partitions"][0]["owner_unknown"] = "Redis is silent"
    assert told(reading(0, "w1"), hidden, reading(2, "w1")) == []


def test_who_leads() -> None:
    nobody = {"leader": None, "unknown": None}
    other = {"leader": "f2", "unknown": None}
    assert told(reading(0), reading(1, forwarder=nobody), reading(2, forwarder=other)) == [
        ("bad", "No forwarder leads.", ""),
        ("good", "The forwarder f2 leads.", ""),
    ]


def test_workers_and_their_partitions() -> None:
    here, lost = {"name": "w1", "state": "here"}, {"name": "w1", "state": "lost"}
    assert told(
        reading(0, "w1", "w1", None, workers=[here]),
        reading(1, "w1", "w1", "w2", workers=[here, {"name": "w2", "state": "here"}]),
        reading(2, None, None, "w2", workers=[lost]),
        reading(3, "w2", "w2", "w2", workers=[lost]),
        reading(4, "w2", "w2", "w2", "w2", workers=[here]),
        reading(5, "w2", "w2", "w2", "w2", workers=[{"name": "w1", "state": "left"}]),
    ) == [
        ("good", "Worker w2 has come.", ""),
        ("bad", "Worker w1 does not answer.", ""),
        ("bad", "No worker owns partitions 0, 1 any more.", "Before: w1."),
        ("plain", "w2 owns partitions 0, 1 now.", ""),
        ("good", "Worker w1 is back.", ""),
        ("plain", "The bank has 4 partitions; it had 3.", ""),
        ("plain", "Worker w1 has ended.", ""),
    ]


def test_rebuilds_and_parked_accounts() -> None:
    failed = {**REBUILD, "id": "2", "state": "failed", "reason": "no room"}
    assert told(
        reading(0),
        reading(1, rebuild=REBUILD, projected=[{**BALANCE, "parked": 1}]),
        reading(2, rebuild={**REBUILD, "state": "done"}, projected=[]),
        reading(3, rebuild=failed),
    ) == [
        ("plain", "A rebuild of balance has begun.", ""),
        ("warn", "1 account is parked in balance; 0 before.", ""),
        ("good", "A rebuild of balance is done.", ""),
        ("bad", "A rebuild of balance has failed.", "no room"),
        ("good", "0 accounts are parked in balance; 1 before.", ""),
    ]


def test_lag() -> None:
    late, later = ({**BALANCE, "lag_seconds": 7.0, "alarm": each} for each in ("amber", "red"))
    unknown = {**BALANCE, "lag_seconds": None}
    found = [reading(n, projected=[e]) for n, e in enumerate([BALANCE, late, unknown, later])]
    assert told(*found, reading(9)) == [
        ("warn", "balance is more than 5 s behind.", ""),
        ("bad", "balance is more than 30 s behind.", ""),
        ("good", "balance follows again.", ""),
    ]


def test_processes_of_roles_with_what_they_warn_of() -> None:
    waiting = {**ROLE, "state": "waiting", "detail": "mongodb does not answer"}
    worker = {**ROLE, "role": "worker", "state": "silent"}
    assert told(
        reading(0, instances=[]),
        reading(1, instances=[ROLE]),
        reading(2, instances=[waiting, worker]),
        reading(3, instances=[{**ROLE, "detail": "fewer replicas"}]),
        reading(4, instances=[ROLE]),
        reading(5, instances=[{**ROLE, "state": "unknown"}]),
        reading(6, instances=[{**ROLE, "state": "silent"}]),
        reading(7, instances=[{**ROLE, "state": "ended"}]),
    ) == [
        ("good", "accounts a1 has started.", ""),
        ("warn", "accounts a1 can't work.", "mongodb does not answer"),
        ("warn", "accounts a1 warns.", "fewer replicas"),
        ("good", "accounts a1 works again.", ""),
        ("bad", "accounts a1 does not answer.", ""),
        ("plain", "accounts a1 has ended.", ""),
    ]


def test_who_runs_already_when_it_is_asked_for_the_first_time_has_not_started() -> None:
    checking = {**ROLE, "state": "unknown"}
    late = {**ROLE, "name": "a2"}
    assert told(
        reading(0, instances=[checking], instances_unknown="they were just asked"),
        reading(1, instances=[ROLE, late]),
        reading(2, instances=[ROLE, late, {**checking, "name": "a3"}]),
        reading(3, instances=[ROLE, late, {**ROLE, "name": "a3"}]),
    ) == [("good", "accounts a3 has started.", "")]


def test_a_process_that_ended_and_runs_again_under_its_name_has_started() -> None:
    assert told(
        reading(0, instances=[ROLE]),
        reading(1, instances=[{**ROLE, "state": "ended"}]),
        reading(2, instances=[ROLE]),
    ) == [("plain", "accounts a1 has ended.", ""), ("good", "accounts a1 has started.", "")]


def test_of_two_of_one_name_the_worse_is_told_once() -> None:
    both = [{**ROLE, "state": "silent"}, ROLE]
    found = told(reading(0, instances=[ROLE, ROLE]), *(reading(1, instances=both),) * 3)
    assert found == [("bad", "accounts a1 does not answer.", "")]


def test_fewer_parked_accounts_are_not_the_end_of_it() -> None:
    changes = Changes()
    found = [
        each
        for second, parked in enumerate((0, 3, 1, 0))
        for each in happened(changes, reading(second, projected=[{**BALANCE, "parked": parked}]))
    ]
    assert [(each.tone, each.seconds) for each in found] == [
        *(("warn", None), ("plain", None), ("good", 2.0))
    ]


def test_a_server_that_is_down_is_told_once_whatever_comes_and_goes() -> None:
    away = {**SERVER, "up": False}
    readings = (
        reading(1, servers=[away], instances=[{**ROLE, "name": f"{n}-{m}"} for m in range(1000)])
        for n in range(6)
    )
    assert [what for _, what, _ in told(reading(0), *readings) if "NATS" in what] == [
        "NATS is down."
    ]


def test_only_so_much_is_remembered() -> None:
    changes = Changes()
    for number in range(6000):
        changes.after(reading(0, instances=[{**ROLE, "name": f"a{number}", "state": "silent"}]))
    known = changes.known._facts, changes.known._since, changes._untold, changes._views
    assert all(len(each) <= 5000 for each in known)


def test_what_is_wrong_at_the_first_look_is_told_as_such() -> None:
    waiting = {**ROLE, "state": "waiting", "detail": "Waiting for mongodb."}
    first = reading(
        0,
        *(None, None),
        servers=[{**SERVER, "up": False, "detail": "no answer"}],
        forwarder={"leader": None, "unknown": None},
        workers=[{"name": "w1", "state": "lost"}, {"name": "w2", "state": "here"}],
        projected=[{**BALANCE, "parked": 7, "newest_parked": ["b", "a"], "alarm": "amber"}],
        rebuild=REBUILD,
        instances=[waiting],
    )
    times = [f"2026-11-27T14:00:{second}.000Z" for second in ("09", "16", "31")]
    assert told(first, *({**first, "at": at} for at in times)) == [
        ("bad", "NATS is down.", f"no answer. {ALREADY}"),
        ("bad", "Worker w1 does not answer.", ALREADY),
        ("warn", "balance is more than 5 s behind.", ALREADY),
        ("warn", "7 accounts are parked in balance.", ALREADY),
        # A bank that is just starting is left some time.
        ("bad", "No forwarder leads.", ALREADY),
        ("bad", "No worker owns partitions 0, 1.", ALREADY),
        ("warn", "accounts a1 can't work.", "Waiting for mongodb."),
    ]
    changes = Changes()
    changes.after(first)
    assert told(first, reading(9, "w1", "w1", workers=first["workers"]))[4:] == [
        ("good", "NATS answers again.", ""),
        ("good", "balance follows again.", ""),
        ("good", "0 accounts are parked in balance; 7 before.", ""),
    ]
    [up] = happened(changes, {**first, "at": times[0], "servers": [SERVER]})
    assert (up.what, up.seconds) == ("NATS answers again.", None)


def test_what_is_parked_first_of_all_is_named() -> None:
    changes = Changes()
    changes.after(reading(0))
    [one] = happened(changes, reading(1, projected=[parked("a")]))
    [more] = happened(changes, reading(2, projected=[parked("c", "b", "a")]))
    [fewer] = happened(changes, reading(3, projected=[parked("b")]))
    assert [one.accounts, more.accounts, fewer.accounts] == [["a"], ["c", "b"], []]


def parked(*newest: str) -> dict[str, Any]:
    return {**BALANCE, "parked": len(newest), "newest_parked": [*newest]}


def test_a_process_that_waits_at_its_start_is_no_warning() -> None:
    waiting = {**ROLE, "role": "worker", "state": "waiting", "detail": "Waiting for partitions."}
    ready = {**waiting, "state": "ready", "detail": None}
    assert told(
        reading(0),
        reading(1, instances=[waiting]),
        reading(9, instances=[waiting]),
        reading(20, instances=[ready]),
        reading(30, instances=[waiting]),
    ) == [
        ("good", "worker a1 has started.", ""),
        ("warn", "worker a1 can't work.", "Waiting for partitions."),
    ]


def test_who_is_told_what_happened_before_goes_on_from_there() -> None:
    before, away = Changes(), [{**SERVER, "up": False}]
    earlier: list[Change] = [
        *before.after(reading(0, "w1")),
        *before.after(reading(1, "w1", servers=away, workers=[{"name": "w1", "state": "here"}])),
        *before.after(reading(2, None, servers=away, workers=[{"name": "w1", "state": "lost"}])),
        *before.after(reading(3, None, servers=away, rebuild=REBUILD)),
    ]
    again = Changes()
    for each in earlier:
        again.known.remember(each)
    still = {"servers": away, "workers": [{"name": "w1", "state": "lost"}], "rebuild": REBUILD}
    assert happened(again, reading(5, None, **still)) == []
    now = reading(11, "w1", workers=[{"name": "w1", "state": "here"}])
    assert [(each.what, each.seconds) for each in happened(again, now)] == [
        ("NATS answers again.", 10.0),
        ("Worker w1 is back.", 9.0),
        ("w1 owns partition 0 now.", None),
    ]


def test_each_line_has_its_own_facts() -> None:
    changes = Changes()
    changes.after(reading(0, "w1", "w1", "w1"))
    moved = changes.after(reading(1, "w2", "w3", "w2", servers=[{**SERVER, "up": False}]))
    assert [(each.happening.what, each.facts) for each in moved] == [
        ("NATS is down.", [("server", "nats", False)]),
        (
            "w2 owns partitions 0, 2 now.",
            [("partitions", "0", "w2"), ("partitions", "2", "w2")],
        ),
        ("w3 owns partition 1 now.", [("partitions", "1", "w3")]),
    ]


def test_a_look_without_an_answer_is_none_that_shows_the_server_up() -> None:
    down = {**SERVER, "up": False, "state": "down"}
    slow = {**SERVER, "state": "slow"}
    assert len(told(reading(0), *(reading(n, servers=[e]) for n, e in ((1, down), (2, slow))))) == 1
