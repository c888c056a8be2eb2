"""What holds of any application's events, and what an application adds."""

from collections.abc import AsyncIterator, Iterable, Iterator

from pipeline.application import Invariant
from pipeline.model.chain import NOTHING, hash_of, link
from pipeline.model.events import Event, new_event
from pipeline.operations.checker.events import CheckedEvents
from tests.apps.post import POST, SCANNED, SENT


async def replay(*histories: list[Event]) -> AsyncIterator[list[Event]]:
    for history in histories:
        yield history


def history(parcel: str, length: int = 3) -> list[Event]:
    kinds = [SENT, *[SCANNED] * (length - 1)]
    events = [new_event(parcel, n, kind, {"at": "Porto"}) for n, kind in enumerate(kinds, 1)]
    previous = NOTHING
    for event in events:
        link(event, previous)
        previous = hash_of(event)
    return events


async def judged(
    *histories: list[Event], invariants: Iterable[Invariant] = POST.invariants
) -> dict[int, tuple[str, ...]]:
    events = CheckedEvents(tuple(invariants))
    await events.read(replay(*histories))
    assert events.accounts == len({each["account_id"] for h in histories for each in h})
    return {each.number: each.examples for each in events.verdicts()}


async def test_sound_histories_hold() -> None:
    # An account's events may come in several parts.
    whole = history("b", 5)
    found = await judged(history("a"), whole[:2], whole[2:], history("c", 1))
    assert found == {2: (), 16: (), 101: ()}


async def test_a_gap_a_change_and_what_the_application_forbids_are_named() -> None:
    gap, changed, twice = history("a"), history("b"), history("c")
    del gap[1]
    changed[1]["body"] = {"at": "Faro"}
    twice[2]["kind"] = SENT
    found = await judged(gap, changed, twice)
    assert found[2] == ("account a, version 3 follows version 1",)
    assert [each.partition(":")[0] for each in found[16]] == [
        "account a, version 3",
        "account b, version 2",
        "account c, version 3",
    ]
    assert found[101] == ("parcel c: ParcelSent is version 3",)


async def test_a_check_that_fails_is_a_fault_and_ends_no_other() -> None:
    class Broken:
        def enter(self, event: Event) -> Iterator[str]:
            yield f"{event['body']['nothing']}"

        def end(self) -> Iterable[str]:
            return ["it never ends well"]

    invariants = [Invariant(102, "broken", Broken), *POST.invariants]
    found = await judged(history("a", 1), invariants=invariants)
    assert found[102] == ("the check failed: KeyError: 'nothing'", "it never ends well")
    assert found[101] == ()
