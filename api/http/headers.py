"""Parses the headers `Idempotency-Key`, `If-Match` and `Accept`, and describes all headers that the
services know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from api.http.operations import Header
from api.http.problems import Problem

_LONGEST_KEY: Final = 200
_TAG: Final = r'(W/)?"([\x21\x23-\x7e\x80-\uffff]*)"'
_TAGS: Final = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")

_WEIGHT: Final = re.compile(r"[01](\.[0-9]{0,3})?")

IDEMPOTENCY_KEY: Final = Header(
    "Idempotency-Key",
    "The client's name for this command, which is executed once however often it is sent.",
    {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY, "pattern": "^[ -~]+$"},
)
IF_MATCH: Final = Header(
    "If-Match",
    'Execute the command on one of these versions (`"3"`), or not at all; `*` is any.',
    {"type": "string"},
)
ETAG: Final = Header("ETag", 'The version of the account: `"3"`.', {"type": "string"})
RETRY_AFTER: Final = Header(
    "Retry-After", "Seconds after which to send it again.", {"type": "string"}
)
WWW_AUTHENTICATE: Final = Header(
    "WWW-Authenticate", "That a key is wanted, as in RFC 6750.", {"type": "string"}
)
LOCATION: Final = Header("Location", "Where it is to be found.", {"type": "string"})


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
        """Whether this version meets the condition; version 0 is an account that does not exist."""
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


def prefers_html(request: web.Request) -> bool:
    """Whether the client prefers a page to JSON by its `Accept`, as browsers do."""
    accepted = ",".join(request.headers.getall("Accept", []))
    weights = dict(_weighed(each) for each in accepted.split(","))
    return _weight(weights, "text/html") > _weight(weights, "application/json")


def _weighed(media_range: str) -> tuple[str, float]:
    kind, *options = (each.strip().lower() for each in media_range.split(";"))
    weight = next((each.removeprefix("q=") for each in options if each.startswith("q=")), "1")
    return kind, float(weight) if _WEIGHT.fullmatch(weight) else 0.0


def _weight(weights: Mapping[str, float], kind: str) -> float:
    """The weight of the most specific range."""
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0.0)
