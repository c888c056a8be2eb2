"""Invariant 19: what was forgotten is nowhere, and its key is gone. Told in other words than the
product's, by docs/events.md alone."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nacl.secret import Aead

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import FORGOTTEN, Event
from tests.torture.commands import KNOWN
from tests.torture.history import History

Key = dict[str, Any]
"""A document of the collection `subject_keys`."""

SAYS: Final = "OwnerForgotten"


def opened(event: Event, keys: Mapping[str, Key]) -> Event:
    """The event as readers have it, with what is `stored` beside it. Raises what a key does that is
    not the event's."""
    if (about := event.get("encrypted")) is None:
        return event
    account = event["account_id"]
    key = keys[account]
    if key["since"] > about["since"]:
        body = dict.fromkeys(about["fields"], FORGOTTEN)
    else:
        place = f"{account}/{event['version']}/{event['kind']}"
        data = urlsafe_b64decode(about["data"])
        body = json.loads(Aead(key["keys"][f"v{about['since']}"]).decrypt(data, place.encode()))[
            "body"
        ]
    return {**event, "body": {**event["body"], **body}, "stored": event}


def forgotten(histories: Mapping[str, list[Event]]) -> dict[str, int]:
    """The version of each account's last forgetting."""
    return {
        account: event["version"]
        for account, events in histories.items()
        for event in events
        if event["kind"] == SAYS
    }


def gone(history: History, histories: Mapping[str, list[Event]]) -> Iterator[str]:
    """The names that were given to accounts before they were forgotten, and to no other account."""
    asked = {sent.key: sent.command.body for sent in history.all if not sent.reused}
    last = forgotten(histories)
    for account in last:
        for event in histories[account]:
            name = asked.get(event.get("idempotency_key", ""), {}).get("owner")
            if name and not name.startswith(KNOWN) and event["version"] < last[account]:
                yield name


def check_keys(
    histories: Mapping[str, list[Event]], keys: Mapping[str, Key], breaches: Breaches
) -> None:
    """A key of before the last forgetting is no more."""
    for account, version in forgotten(histories).items():
        key = keys.get(account, {})
        holds = all(int(each[1:]) >= version for each in key.get("keys", ()))
        breaches.judge(19, holds, f"{account} is forgotten at {version}, its key is there")


def found(names: set[str], places: Mapping[str, str]) -> list[str]:
    """Which of the names stand in which place's raw content."""
    return [
        f"{place} has {name!r}"
        for place, text in places.items()
        for name in sorted(names)
        if json.dumps(name)[1:-1] in text
    ]
