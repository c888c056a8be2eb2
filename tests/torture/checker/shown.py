"""Invariants of what is shown and of the log: 4, 10 and 11."""

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import Fields, faults
from tests.torture.checker.stores import Logged, Shown

_ERA = 1 << 40


def differences(wanted: dict[str, Fields], documents: dict[str, Shown]) -> dict[str, str]:
    """What is wrong with the documents, by id."""
    found = dict.fromkeys(documents.keys() - wanted.keys(), "extra")
    for name, fields in wanted.items():
        there = documents.get(name)
        if there is None:
            found[name] = "missing"
        elif wrong := faults(fields, there.source):
            found[name] = ", ".join(wrong)
        elif there.version % _ERA != fields["version"]:
            found[name] = f"_version {there.version} does not fit version {fields['version']}"
    return found


def check_documents(
    wanted: dict[str, Fields], documents: dict[str, Shown], breaches: Breaches
) -> None:
    breaches.looked(4, len(wanted))
    for name, what in sorted(differences(wanted, documents).items()):
        breaches.add(4, f"{name}: {what}")


def check_groups(wanted: dict[str, Fields], shown: list[Fields], breaches: Breaches) -> None:
    """Each group is shown once, and adds up to what its accounts' events say."""
    breaches.looked(20, len(wanted))
    there = {each["id"]: each for each in shown}
    if len(there) < len(shown):
        breaches.add(20, f"{len(shown) - len(there)} groups are shown again")
    for key in sorted(wanted.keys() | there.keys()):
        if wrong := faults(wanted.get(key, {}), there.get(key, {})):
            breaches.add(20, f"{key}: {', '.join(wrong)}")


def check_rebuilt(before: dict[str, Shown], after: dict[str, Shown], breaches: Breaches) -> None:
    """Two generations of one position have the same documents."""
    breaches.looked(10, len(before))
    for account in sorted(before.keys() | after.keys()):
        old, new = before.get(account), after.get(account)
        if old is None or new is None or old.source != new.source:
            breaches.add(10, f"{account}: {old and old.source}, rebuilt {new and new.source}")


def check_log(messages: list[Logged], breaches: Breaches) -> None:
    """No event twice, and an account's without a gap.

    A marker may stand for events before it, and what was taken out of the log leaves a hole in
    its sequence: neither is a loss.
    """
    seen: set[str] = set()
    versions: dict[str, int] = {}
    before = 0
    for sequence, event, resync in messages:
        if resync or sequence != before + 1:
            versions.clear()
        before = sequence
        if event is None:
            continue
        account, version = event["account_id"], event["version"]
        breaches.judge(11, event["_id"] not in seen, f"{event['_id']} is in the log twice")
        seen.add(event["_id"])
        last = versions.get(account, version - 1)
        follows = f"{account}: in the log, version {version} follows {last}"
        breaches.judge(11, version == last + 1, follows)
        versions[account] = version
