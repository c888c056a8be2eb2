"""Invariants of what is shown and of the log: 4, 10 and 11."""

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import Account, shown
from tests.torture.checker.stores import Logged, Shown

_ERA = 1 << 40


def differences(accounts: dict[str, Account], documents: dict[str, Shown]) -> dict[str, str]:
    """What is wrong with the documents, by account."""
    found = dict.fromkeys(documents.keys() - accounts.keys(), "extra")
    for account, last in accounts.items():
        there = documents.get(account)
        if there is None:
            found[account] = "missing"
        elif faults := shown(last, there.source):
            found[account] = ", ".join(faults)
        elif there.version % _ERA != last.version:
            found[account] = f"_version {there.version} does not fit version {last.version}"
    return found


def check_documents(
    accounts: dict[str, Account], documents: dict[str, Shown], breaches: Breaches
) -> None:
    wrong = differences(accounts, documents)
    breaches.looked(4, len(accounts))
    for account, what in sorted(wrong.items()):
        breaches.add(4, f"{account}: {what}")


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
