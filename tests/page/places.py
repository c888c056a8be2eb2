"""Every place of the page that a reader can come to, at a service whose answers are made up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web
from playwright.async_api import expect

from tests.page.browser import Tab
from tests.page.canned import Canned, now, page_of, reading
from tests.page.test_frame import ADA, account, accounts, entry, parked_ones, rebuild, say, step

KEY: Final = "right"
LONG: Final = "W" * 60 + " \u202e שלום"
NOBODY: Final = account(99)["id"]


@dataclass(frozen=True)
class Place:
    """A view by its address; `act` is what the reader does there, `role` whose key it is."""

    view: str
    act: Callable[[Tab], Awaitable[None]] | None = None
    role: str | None = None
    change: Callable[[Canned], None] | None = None


def stored(version: int) -> dict[str, Any]:
    return {
        "_id": f"01JE{version:022}",
        "account_id": ADA,
        "version": version,
        "slot": 5,
        "kind": "MoneyDeposited",
        "body": {"money": 10, "description": LONG},
        "created_at": now(),
        "correlation_id": "c1",
    }


def forwarded(version: int) -> dict[str, Any]:
    event = stored(version)
    return {
        "id": event["_id"],
        "type": event["kind"],
        "subject": ADA,
        "time": event["created_at"],
        "version": version,
        "position": f"0.{version}.0",
        "correlationid": "c1",
        "data": event,
    }


async def feed(request: web.Request) -> web.StreamResponse:
    """Some events, and no end."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for version in (1, 2, 3):
        await answer.write(b"data: " + orjson.dumps(forwarded(version)) + b"\n\n")
    await asyncio.Event().wait()
    return answer


def trace() -> dict[str, Any]:
    """Of an event that one projection has, and for which its account is parked in the other."""
    stages = [
        {"stage": name, "at": now(), "milliseconds": n * 1.5}
        for n, name in enumerate(
            ("received", "decided", "forwarded", "delivered", "written", "visible")
        )
    ]
    to = {"stages": stages, "left_out": False, "document_version_unknown": None}
    projections = [
        {**to, "projection": "balance", "document_version": 3, "parked": None},
        {
            **to,
            "projection": "statement",
            "document_version": 1,
            "parked": {"reason": "Nobody knows."},
        },
    ]
    event = {"event_id": "e3", "account_id": ADA, "version": 3, "kind": "MoneyDeposited"}
    return {
        "complete": True,
        "events": [{**event, "stream_unknown": None, "projections": projections}],
    }


def hour() -> dict[str, Any]:
    at = list(range(1_700_000_000, 1_700_003_600, 10))
    course = {"rate": [5.0] * len(at), "lag_seconds": [float(n % 9) for n in range(len(at))]}
    projected = {"balance": course, "statement": course}
    return {
        "at": at,
        "commands": course["rate"],
        "stored": course["rate"],
        "forwarded": course,
        "projected": projected,
    }


def minutes() -> list[dict[str, Any]]:
    kinds = {"MoneyDeposited": {"events": 5, "money": 500}}
    return [{"minute": f"2026-11-30T10:{n:02}:00Z", "kinds": kinds} for n in range(60)]


def answers() -> dict[str, Any]:
    """Of a bank that has a bit of everything."""
    happened = {"kind": "server", "seconds": 61.0, "at": now()}
    tones = ("bad", "warn", "plain", "good")
    stage = {"events": 9, "p50": 1.5, "p99": 12.0}
    names = ("received", "decided", "forwarded", "delivered", "written", "visible", "whole")
    setting = {"name": "BANK_NATS_URL", "value": "nats://127.0.0.1:4222", "meaning": "Where it is."}
    action = {"actor": {"user": "ada", "role": "operator"}, "action": "rebuild", "outcome": "done"}
    parts = {"at": hour()["at"], "lag_seconds": [hour()["projected"]["balance"]["lag_seconds"]] * 4}
    return {
        "/": accounts,
        "/events": feed,
        "/schemas": page_of({"kind": "MoneyDeposited"}, {"kind": "MoneyWithdrawn"}),
        "/stages": page_of(*({"stage": name, **stage} for name in names), minutes=5, events=9),
        "/traces/c1": trace(),
        "/timeline": page_of(
            *({**happened, "tone": tone, "what": LONG, "detail": LONG} for tone in tones),
            since=now(),
        ),
        "/audit": page_of({**action, "id": "a1", "time": now(), "target": LONG}),
        "/settings": page_of({**setting, "default": "nats://127.0.0.1:4222"}),
        "/partitions": page_of(*reading()["partitions"]),
        "/partitions/hour": parts,
        "/activity": page_of(*minutes(), approximate=True),
        "/rebuilds": page_of({**rebuild("failed"), "id": "r0", "reason": LONG}, rebuild("done")),
        **parked_ones(2, 3),
        f"/{ADA}": {**account(1), "owner": LONG, "balance": 2**53 - 1},
        f"/{ADA}/statement": page_of(*map(entry, (3, 2, 1))),
        f"/{ADA}/history": page_of(*({**step(n), "event": stored(n)} for n in (3, 2, 1))),
        f"/{ADA}/events": page_of(),
        f"/events/{ADA}/2": {"event": stored(2), "before": stored(1), "after": stored(3)},
    }


def troubled(service: Canned) -> None:
    service.reading = lambda: reading("w1", None, rebuild=rebuild())
    service.answers["/rebuilds"] = page_of(rebuild())


def empty(service: Canned) -> None:
    service.reading = lambda: reading(stored={"events": 0, "rate": 0.0, "unknown": None})
    service.answers |= {"/": page_of(), "/parked": page_of(), "/rebuilds": page_of()}


def broken(service: Canned) -> None:
    service.answers |= {f"/{ADA}": 503, "/": 503, "/timeline": 503, "/traces/c1": 404}


def press(name: str) -> Callable[[Tab], Awaitable[None]]:
    async def act(page: Tab) -> None:
        await page.page.get_by_role("button", name=name).first.click()

    return act


async def unfold(page: Tab) -> None:
    for each in await page.page.locator("#view summary").all():
        await each.click()


async def ask_for_a_term(page: Tab) -> None:
    await page.page.locator("main button.term:visible").first.click()


async def told(page: Tab) -> None:
    await say(page, "bad", "good", "warn")


COMMANDS: Final = ("create", "deposit", "withdraw", "transfer", "hold", "capture", "void")

PLACES: Final[Mapping[str, Place]] = {
    "overview": Place("overview", unfold),
    "overview of an empty bank": Place("overview", change=empty),
    "overview with troubles and notices": Place("overview", told, change=troubled),
    "partitions": Place("partitions"),
    "partitions of another projection": Place("partitions?projection=statement"),
    "partitions without a worker": Place("partitions", change=troubled),
    "a term": Place("partitions", ask_for_a_term),
    "events": Place("events"),
    "events of which none fits": Place("events?text=zzz"),
    "an event": Place(f"events/{ADA}?version=2"),
    "trace": Place("trace"),
    "a trace": Place("trace/c1"),
    "a trace explained": Place("trace/c1?explain=yes"),
    "a trace that is not there": Place("trace/c1", change=broken),
    "timeline": Place("timeline"),
    "rebuild": Place("rebuild"),
    "rebuild, asked": Place("rebuild", press("Start…")),
    "rebuild that runs": Place("rebuild", change=troubled),
    "parked": Place("parked", unfold),
    "parked, none": Place("parked", change=empty),
    "parked, asked": Place("parked", press("Drop…")),
    "accounts": Place("accounts"),
    "accounts, none": Place("accounts", change=empty),
    "accounts, unread": Place("accounts", change=broken),
    "an account": Place(f"accounts/{ADA}", unfold),
    "an account at a version": Place(f"accounts/{ADA}?version=2"),
    "an account at a time": Place(f"accounts/{ADA}", press("Go by time")),
    "an account, unread": Place(f"accounts/{ADA}", change=broken),
    "an account that is not there": Place(f"accounts/{NOBODY}"),
    **{f"command {each}": Place(f"command/{each}?account={ADA}") for each in COMMANDS},
    "a command with faults": Place("command/transfer", press("Transfer")),
    "a page that is not there": Place("nothing"),
    "a key is asked for": Place("overview", role="nobody"),
    "a key is needed": Place("overview", press("Not now"), role="nobody"),
    "accounts, for a teller": Place("accounts", role="teller"),
    "partitions, for a teller": Place("partitions", role="teller"),
    "accounts, for a customer": Place("accounts", role="customer"),
    "an account, for a customer": Place(f"accounts/{ADA}", role="customer"),
    "parked, for a viewer": Place("parked", role="viewer"),
}


async def come_to(page: Tab, service: Canned, place: Place) -> None:
    """Have the page there, with all that it reads."""
    service.key, service.reading, service.hour = "", reading, hour()
    service.answers |= {**answers(), "/whoami": WITHOUT_KEYS}
    if place.change:
        place.change(service)
    if place.role:
        service.has_key(KEY, place.role, ADA)
    if page.page.url.startswith(page.address):
        await page.page.evaluate("sessionStorage.clear()")  # the key of the place before
    await page.page.goto("about:blank")
    await page.show(place.view)
    if place.role and place.role != "nobody":
        await page.page.get_by_label("API key").fill(KEY)
        await page.press("Use this key")
        await expect(page.page.locator("#who strong")).to_have_text(place.role)
    await expect(page.page.get_by_text("Reading…")).to_have_count(0)
    if place.act:
        await place.act(page)
    await page.page.evaluate("scrollTo(0, 0)")  # nothing lies under the bar on top


WITHOUT_KEYS: Final[dict[str, Any]] = {
    "keys": False,
    "id": None,
    "role": None,
    "expires": None,
    "accounts": [],
}
