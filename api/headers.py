"""Request headers that have a grammar of their own: `Idempotency-Key` and `If-Match`."""

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from api.problems import Problem

_LONGEST_KEY: Final = 200
_TAG: Final = r'(W/)?"([\x21\x23-\x7e\x80-\uffff]*)"'
_TAGS: Final = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


def idempotency_key(request: web.Request) -> str | None:
    """The client's name for this command, if it gave one; problem 400."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    key = given[0]
    if len(given) == 1 and 0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    raise Problem(
        400,
        "invalid-idempotency-key",
        f"Idempotency-Key takes one key of 1 to {_LONGEST_KEY} printable ASCII characters.",
    )


@dataclass(frozen=True, slots=True)
class Condition:
    """The entity tags of which the present one must be one; None is any."""

    tags: frozenset[str] | None

    def admits(self, version: int) -> bool:
        """Whether what has this version is as the client believes; version 0 is not there."""
        return version > 0 and (self.tags is None or str(version) in self.tags)


def if_match(request: web.Request) -> Condition | None:
    """The condition that the client set, if it did; problem 400. Weak tags never match."""
    given = request.headers.getall("If-Match", [])
    if not given:
        return None
    tags = ",".join(given)
    if tags == "*":
        return Condition(None)
    if not _TAGS.fullmatch(tags):
        raise Problem(400, "invalid-if-match", 'If-Match takes "<version>", a list of them, or *.')
    return Condition(frozenset(tag for weak, tag in re.findall(_TAG, tags) if not weak))
