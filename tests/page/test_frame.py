"""What all views share, at a service without a bank: size, calm, titles, focus, keys, addresses."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Locator, expect

from tests.harness import LONG_LANE, eventually, some_of
from tests.page.browser import DESKTOP, PHONE, Scheme, Tab, tab
from tests.page.canned import Canned, canned, now, page_of, reading

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADA: Final = f"01JD{1:022}"
ROWS: Final = "main tbody tr"
VIEWS: Final = (
    *("overview", "partitions", "trace", "timeline", "rebuild", "parked"),
    *("accounts", "command/hold", f"accounts/{ADA}"),
)


def account(number: int) -> dict[str, Any]:
    return {
        "id": f"01JD{number:022}",
        "owner": f"Owner {number:03}",
        "balance": 1000 + number,
        "version": 3,
        "status": "open",
        "slot": 5,
        "updated_at": now(),
    }


async def accounts(request: web.Request) -> dict[str, Any]:
    """Sixty in pages of 25, some moments later."""
    await asyncio.sleep(0.3)
    first = int(request.query.get("starting_after", 0))
    more = {"next": str(first + 25), "has_more": True} if first < 50 else {}
    return page_of(*(account(number) for number in range(first, min(first + 25, 60))), **more)


def entry(version: int) -> dict[str, Any]:
    return {
        "version": version,
        "kind": "MoneyDeposited",
        "amount": 10,
        "balance": 1000 + version,
        "at": now(),
    }


def step(version: int) -> dict[str, Any]:
    event = {"_id": f"e{version}", "kind": "MoneyDeposited", "created_at": now()}
    of_an_account = {"owner": "Owner 001", "status": "open", "holds": [], "available": 0}
    states = [
        {**of_an_account, "version": each, "balance": each} for each in (version - 1, version)
    ]
    before, after = states
    return {"version": version, "event": event, "before": before, "after": after}


def parked(number: int) -> dict[str, Any]:
    return {
        "account_id": account(number)["id"],
        "version": 3,
        "kind": "MoneyPrinted",
        "reason": "Nobody knows this kind.",
        "since": now(),
        "attempts": 1,
        "retry": False,
    }


def parked_ones(*numbers: int) -> dict[str, Any]:
    """The answers about parked accounts and what is asked of each besides."""
    answers: dict[str, Any] = {"/parked": page_of(*map(parked, numbers))}
    for number in numbers:
        id_ = account(number)["id"]
        event = {"account_id": id_, "version": 3, "kind": "MoneyPrinted", "slot": 5}
        answers |= {
            f"/{id_}": account(number),
            f"/parked/{id_}": {**parked(number), "waiting": 2},
            f"/events/{id_}/3": {"event": event, "before": None, "after": None},
        }
    return answers


def rebuild(state: str = "running", done: int = 5) -> dict[str, Any]:
    part = {"events_per_second": 3.0, "seconds_left": 2.0, "owner": "w1"}
    return {
        "id": "r1",
        "projection": "balance",
        "kind": "online",
        "phase": "building",
        "state": state,
        "started": now(),
        "finished": None if state == "running" else now(),
        "reason": None,
        "partitions": [
            {"partition": 0, "state": "replaying", "done": done, "total": 10, **part},
            {"partition": 1, "state": "waiting", "done": 0, "total": 0, **part},
        ],
        "done": done,
        "total": 10,
    }


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Canned]:
    async with canned() as started:
        started.answers |= {
            "/": accounts,
            f"/{ADA}": account(1),
            f"/{ADA}/statement": page_of(*map(entry, (3, 2, 1))),
            f"/{ADA}/history": page_of(*map(step, (3, 2, 1))),
            f"/{ADA}/events": page_of(),
        }
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, service: Canned) -> AsyncIterator[Tab]:
    async with tab(browser, service.address, refusals=True) as opened:
        yield opened


async def test_the_first_view_takes_few_requests_and_little(page: Tab) -> None:
    taken = list[int]()

    async def count(request: Any) -> None:
        if "/pipeline/events" not in request.url:
            sizes = await request.sizes()
            taken.append(sizes["responseBodySize"] + sizes["responseHeadersSize"])

    counting = list[asyncio.Task[None]]()
    page.page.on(
        "requestfinished", lambda each: counting.append(asyncio.ensure_future(count(each)))
    )
    await page.show()
    await page.says("Live", where="#live")
    await asyncio.gather(*counting)
    assert len(page.asked) <= 25
    assert sum(taken) <= 150_000
    assert taken


NARROW: Final = (320, 640)
OTHERS: Final = [pytest.param(size, marks=LONG_LANE) for size in (PHONE, NARROW)]


@asynccontextmanager
async def steady(browser: Browser, address: str, size: tuple[int, int]) -> AsyncIterator[Tab]:
    """A tab that notes in `jumps` what moved, and by how much."""
    async with tab(browser, address, size) as page:
        await page.page.add_init_script(
            """window.jumps = [];
            new PerformanceObserver((list) => {
              for (const each of list.getEntries()) if (!each.hadRecentInput) jumps.push(
                [each.value, ...each.sources.map(({ node }) => node?.outerHTML?.slice(0, 80))]);
            }).observe({ type: "layout-shift", buffered: true });"""
        )
        yield page


async def stands_still(page: Tab, view: str, summary: str) -> None:
    """Whether next to nothing moves until the view says so of the bank, and is read."""
    await page.says("Live", where="#live")
    await page.says(summary, where="#troubles .summary")
    await expect(page.page.get_by_text("Reading…")).to_have_count(0)
    await page.page.evaluate("new Promise((done) => setTimeout(done, 500))")
    jumps = await page.page.evaluate("jumps")
    assert sum(each[0] for each in jumps) <= 0.05, (view, summary, jumps)


WELL: Final = "Nothing is known to be wrong."


@pytest.mark.parametrize("size", [DESKTOP, *OTHERS])
async def test_nothing_that_is_shown_jumps(
    browser: Browser, service: Canned, size: tuple[int, int]
) -> None:
    service.answers |= {"/rebuilds": page_of(rebuild()), **parked_ones(2)}
    service.delay = 0.3
    async with steady(browser, service.address, size) as page:
        for view in VIEWS:
            await page.page.goto("about:blank")
            await page.show(view)
            await stands_still(page, view, WELL)


async def live_events(request: web.Request) -> web.StreamResponse:
    """Events of all lengths, fifty a second."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in itertools.count():
        event = {
            "id": f"01JE{number:022}",
            "type": ("MoneyDeposited", "AccountOpened", "HoldPlaced")[number % 3],
            "subject": f"01JD{number % 50:022}",
            "time": f"2026-11-27T14:{number // 60 % 60:02}:{number % 60:02}.000Z",
            "version": number + 1,
            "position": f"0.{number}.0",
            "correlationid": f"01JF{number:022}",
            "data": {"body": {"money": 7 ** (number % 9), "description": "x" * (number % 40)}},
        }
        await answer.write(b"data: %b\n\n" % orjson.dumps(event))
        await asyncio.sleep(0.02 if number > 150 else 0)
    return answer


@pytest.mark.parametrize("size", [DESKTOP, *OTHERS])
async def test_events_that_come_move_nothing_and_what_is_under_the_pointer_stays(
    browser: Browser, service: Canned, size: tuple[int, int]
) -> None:
    service.answers |= {"/events": live_events, "/schemas": page_of()}
    async with steady(browser, service.address, size) as page:
        await page.show("events")
        told, rows = page.page.locator(".told"), page.page.locator(ROWS)
        await expect(rows).to_have_count(100)
        before = await rows.first.inner_text()
        await expect(rows.first).not_to_have_text(before)
        await expect(told).to_have_text(re.compile("^[0-9,]+ came, of which"))
        await page.page.evaluate("jumps.length = 0")  # how the view came is not asked here
        await rows.nth(1).hover()
        await expect(told).to_have_text(re.compile("^Held .* came since"))
        held, words = await rows.nth(1).inner_text(), await told.inner_text()
        await expect(told).not_to_have_text(words)
        assert await rows.nth(1).inner_text() == held
        jumps = await page.page.evaluate("jumps")
        assert sum(each[0] for each in jumps) <= 0.05, jumps
        await page.page.mouse.move(5, 5)
        await expect(told).to_have_text(re.compile("^[0-9,]+ came"))


def ill() -> dict[str, Any]:
    """A reading of a bank in which much is wrong."""
    found = reading()
    found["servers"][0].update(up=False, state="silent", detail="MongoDB does not answer")
    found["instances"][0]["state"] = "silent"
    furthest = {"partition": 3, "lag_seconds": 45.0, "since": now()}
    late = {"alarm": "red", "lag_seconds": 45.0, "lag_events": 7, "furthest": furthest}
    for each in found["projected"]:
        each.update(late, parked=1)
    return found


WRONG: Final = "4 things are wrong: MongoDB does not answer."


@pytest.mark.parametrize(
    ("size", "views"),
    [
        (DESKTOP, VIEWS[:1]),
        (NARROW, VIEWS[:1]),
        *(pytest.param(size, VIEWS, marks=LONG_LANE) for size in (DESKTOP, PHONE, NARROW)),
    ],
)
async def test_no_alarm_moves_what_is_read(
    browser: Browser, service: Canned, size: tuple[int, int], views: tuple[str, ...]
) -> None:
    """Neither one that is there from the beginning nor one that goes and comes."""
    service.answers |= {"/rebuilds": page_of(rebuild()), **parked_ones(2)}
    async with steady(browser, service.address, size) as page:
        for view in views:
            service.reading = ill
            await page.page.goto("about:blank")
            await page.show(view)
            await stands_still(page, view, WRONG)
            service.reading = reading
            await stands_still(page, view, WELL)
            service.reading = ill
            await stands_still(page, view, WRONG)


async def test_all_that_is_wrong_unfolds_over_the_view(page: Tab, service: Canned) -> None:
    service.reading = ill
    await page.show()
    await page.says(WRONG, where="#troubles .summary")
    await page.says("MongoDB does not answer. No account service answers.", where="#spoken")
    every = page.page.locator("#all-troubles")
    place = "document.querySelector('h1').getBoundingClientRect().y"
    before = await page.page.evaluate(place)
    fold = page.page.get_by_role("button", name=WRONG)
    await expect(fold).to_have_attribute("aria-expanded", "false")
    await expect(every).to_be_hidden()
    await fold.press("Enter")
    await expect(fold).to_have_attribute("aria-expanded", "true")
    await expect(every.locator("> li")).to_have_count(4)
    await expect(every).to_contain_text("balance and statement are 45 s behind.")
    assert await page.page.evaluate(place) == before
    assert await page.violations() == []
    await page.page.keyboard.press("Escape")
    await expect(every).to_be_hidden()
    await expect(fold).to_be_focused()
    await fold.press("Enter")
    await page.page.locator("footer").click()
    await expect(every).to_be_hidden()


async def test_the_list_closes_when_all_is_well_again_which_is_spoken(
    page: Tab, service: Canned
) -> None:
    service.reading = ill
    await page.show()
    fold = page.page.get_by_role("button", name=WRONG)
    await fold.press("Enter")
    service.reading = reading
    await page.says(WELL, where="#troubles .summary")
    await page.says(WELL, where="#spoken")
    await expect(page.page.locator("h1")).to_be_focused()
    service.reading = ill
    await expect(fold).to_have_attribute("aria-expanded", "false")
    await expect(page.page.locator("#all-troubles")).to_be_hidden()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [pytest.param(*each, marks=LONG_LANE) for each in ((DESKTOP, "light"), (PHONE, "dark"))],
)
async def test_no_view_has_a_fault(
    browser: Browser, service: Canned, size: tuple[int, int], scheme: Scheme
) -> None:
    """Nor with notices, a rebuild that runs and a term that is explained."""
    service.answers |= {"/rebuilds": page_of(rebuild()), **parked_ones(2)}
    service.reading = lambda: reading("w1", None, rebuild=rebuild())
    async with tab(browser, service.address, size, scheme) as page:
        for view in VIEWS:
            await page.show(view)
            await page.says("Live", where="#live")
            await expect(page.page.get_by_text("Reading…")).to_have_count(0)
            await say(page, "bad", "good")
            assert await page.violations() == [], view
            assert await page.overflow() <= 0, view
        await page.page.get_by_role("button", name="What does slot mean?").click()
        assert await page.violations() == [], "a term"


async def test_nothing_on_the_overview_is_animated(page: Tab) -> None:
    await page.show()
    await expect(page.page.locator(".stage[data-moving]").first).to_be_visible()
    assert await page.page.evaluate("document.getAnimations().length") == 0


async def say(page: Tab, *tones: str) -> None:
    """Notices, as if something had been done."""
    await page.page.evaluate(
        """(tones) => import('/ui/parts/notices.js').then(({ say }) => {
          for (const tone of tones) say(tone, `It is ${tone}.`, 'So.');
        })""",
        tones,
    )


async def test_notices_are_sorted_and_cover_no_button(page: Tab, service: Canned) -> None:
    service.answers |= parked_ones(*range(9))
    await page.show("parked")
    await expect(page.page.get_by_role("button", name="Drop…")).to_have_count(9)
    await say(page, "good", "bad", "warn", "bad", "good")
    notices = page.page.locator(".notice strong")
    told = ["It is bad.", "It is bad.", "It is warn.", "It is good."]
    await expect(notices).to_have_text(told)
    covered = await page.page.evaluate(
        """[...document.querySelectorAll('#view button')].filter((button) => {
          button.focus();
          const { x, y, width, height } = button.getBoundingClientRect();
          return !button.contains(document.elementFromPoint(x + width / 2, y + height / 2));
        }).length"""
    )
    assert covered == 0


async def test_who_stood_on_a_card_that_vanishes_stands_on_the_next(
    page: Tab, service: Canned
) -> None:
    service.answers |= parked_ones(1, 2)
    await page.show("parked")
    button = page.page.get_by_role("button", name=f"Drop… {ADA}").first
    await button.focus()
    service.answers["/parked"] = page_of(parked(2))
    await expect(button).to_have_count(0)
    await expect(page.page.locator("li.card :focus").first).to_be_attached()
    service.answers["/parked"] = page_of()
    await page.says("No account is parked.")
    await expect(page.page.locator("h1")).to_be_focused()


async def test_each_view_has_a_title_of_its_own(page: Tab) -> None:
    titles = set[str]()
    for view in (*VIEWS, f"accounts/{account(2)['id']}", "nothing", "constructor"):
        await page.show(view)
        titles.add(await page.page.title())
    assert len(titles) == len(VIEWS) + 2


def dialog(page: Tab) -> Locator:
    return page.page.locator("dialog[open]")


async def enter(page: Tab, key: str) -> None:
    await page.page.get_by_label("API key").fill(key)
    await page.press("Use this key")


@pytest.mark.parametrize(
    "key", some_of(["bank_6f1c9a0e5b7d2c48_…", "ключ", "a b", "wrong"], "ключ", "wrong")
)
async def test_a_refused_key_brings_the_dialog_back(page: Tab, service: Canned, key: str) -> None:
    service.has_key("right", "viewer")
    await page.show()
    for _ in range(2):
        await expect(dialog(page)).to_be_visible()
        await enter(page, key)
        why = "Key refused." if key.isascii() else "This is no key."
        await expect(page.page.locator("#key-why")).to_contain_text(why)
    await page.page.reload()
    await expect(dialog(page)).to_be_visible()
    await page.press("Not now")
    await page.press("Enter a key")
    await enter(page, "right")
    await page.says("Live", where="#live")


async def test_a_key_that_ends_takes_all_away(page: Tab, service: Canned) -> None:
    service.has_key("right", "viewer")
    await page.show()
    await enter(page, "right")
    await page.says("Live", where="#live")
    service.key = "another"
    await expect(page.page.locator("#key-why")).to_contain_text("Key refused.")
    await expect(page.page.locator("h1")).to_have_text("A key is needed")
    await expect(page.page.locator("#live")).to_be_empty()
    await expect(page.page.locator("#troubles")).to_be_empty()


@pytest.mark.parametrize(("role", "own"), [("teller", ()), ("customer", (ADA,)), ("customer", ())])
async def test_who_may_not_watch_waits_for_no_reading(
    page: Tab, service: Canned, role: str, own: tuple[str, ...]
) -> None:
    service.has_key("right", role, *own)
    await page.show()
    await enter(page, "right")
    await expect(page.page.locator("h1")).to_have_text("Accounts")
    await page.show("partitions")
    await page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.page.locator("#live")).to_be_empty()
    await page.page.get_by_role("link", name="To the accounts").click()
    told = {"teller": "Owner 001", "customer": own[0] if own else "Your key reaches no account"}
    await page.says(told[role], where="main")
    assert not [each for each in page.asked if "/pipeline" in each]


async def test_back_returns_to_the_page_and_to_where_one_was(page: Tab) -> None:
    await page.show("accounts?sort=-balance")
    await expect(page.page.locator(ROWS)).to_have_count(25)
    await page.press("Next")
    await page.says("Owner 026", where="main tbody")
    await expect(page.page).to_have_url(re.compile(r"#/accounts\?sort=-balance&after=25&page=2$"))
    await page.page.evaluate("scrollTo(0, 300)")
    await page.page.evaluate("document.querySelector('tbody a[href*=\"1\"]').click()")
    await expect(page.page.locator("h1")).to_have_text("Account")
    assert await page.page.evaluate("scrollY") == 0
    await page.page.go_back()
    await page.says("Owner 026", "Page 2", where="#view")
    await eventually(lambda: page.page.evaluate("scrollY === 300"))
    await page.page.reload()  # it can be linked
    await page.says("Owner 026", "Page 2", where="#view")
    await page.page.go_back()
    await page.says("Owner 000", where="#view")
    await expect(page.page.get_by_label("Order")).to_have_value("-balance")


async def test_the_projection_is_in_the_address(page: Tab, service: Canned) -> None:
    service.answers["/partitions"] = page_of(*reading()["partitions"])
    await page.show("partitions")
    choice = page.page.get_by_label("Projection")
    await choice.select_option("statement")
    await expect(page.page).to_have_url(re.compile("projection=statement$"))
    await page.page.reload()
    await expect(choice).to_have_value("statement")
    await page.page.go_back()
    await expect(choice).to_have_value("balance")


async def test_an_account_that_nobody_knows_is_one_message(page: Tab) -> None:
    await page.show(f"accounts/{account(99)['id']}")
    await page.says("Not found", where="#view")
    await expect(page.page.locator("#view .box")).to_have_count(1)
    await expect(page.page.locator("#view section")).to_have_count(0)


async def test_no_time_before_an_account_was_opened_is_asked_for(
    page: Tab, service: Canned
) -> None:
    opened = step(1)["event"]["created_at"]
    steps = [step(each) for each in (3, 2, 1)]
    for each in steps:
        each["event"]["created_at"] = opened

    async def history(request: web.Request) -> Any:
        return page_of(*(steps[-1:] if "version" in request.query else steps))

    service.answers[f"/{ADA}/history"] = history
    await page.show(f"accounts/{ADA}")
    young = page.page.get_by_role("button", name="An hour ago")
    await expect(young).to_be_disabled()
    await expect(young).to_have_accessible_description("There was no such account an hour ago.")
    await page.says("Version 3 of 3, the newest", "There was no such account an hour ago.")
    await page.press("Go by time")
    async with page.page.expect_request(re.compile(r"history\?at=")) as asked:
        await page.page.locator("#time").fill("0")
    at = parse_qs(urlsplit((await asked.value).url).query)["at"][0]
    assert at > opened


async def test_a_trace_pushes_nothing_down_when_it_comes(page: Tab, service: Canned) -> None:
    known = asyncio.Event()

    async def trace(request: web.Request) -> Any:
        await known.wait()
        return {"complete": True, "events": []}

    service.answers["/traces/x"] = trace
    async with page.page.expect_response(re.compile("/stages")):
        await page.show("trace/x")
    await expect(page.page.locator("#view")).to_contain_text("Reading…")
    await expect(page.page.locator("#lately")).to_have_count(0)
    known.set()
    await expect(page.page.locator("#lately")).to_be_visible()


async def test_words_of_others_turn_nothing_on_the_timeline(page: Tab, service: Canned) -> None:
    turned = {"kind": "server", "tone": "bad", "what": "Ada \u202eelliB", "detail": "so \u2066 so"}
    service.answers["/timeline"] = page_of({"at": now(), "seconds": None, **turned}, since=now())
    await page.show("timeline")
    entry = page.page.locator(".timeline li")
    await expect(entry).to_contain_text("Ada U+202EelliB")
    await expect(entry).to_contain_text("so U+2066 so")


async def test_lines_of_the_timeline_lead_to_what_they_are_about(
    page: Tab, service: Canned
) -> None:
    line = {"at": now(), "seconds": None, "tone": "warn", "detail": ""}
    service.answers["/timeline"] = page_of(
        {**line, "kind": "parked", "about": "balance", "what": "1 parked.", "accounts": [ADA]},
        {**line, "kind": "lag", "about": "statement", "what": "It is late.", "accounts": []},
        since=now(),
    )
    await page.show("timeline")
    for name, href in (
        (ADA, f"#/accounts/{ADA}"),
        ("See what is parked", "#/parked"),
        ("See its partitions", "#/partitions?projection=statement"),
    ):
        await expect(page.page.get_by_role("link", name=name)).to_have_attribute("href", href)


async def test_why_an_account_can_t_be_read_is_told_once(page: Tab, service: Canned) -> None:
    page.refusals = True
    service.answers |= {f"/{ADA}": 503, f"/{ADA}/statement": 503}
    service.answers[f"/{ADA}/history"] = page_of(step(2), step(1))
    await page.show(f"accounts/{ADA}")
    await expect(page.page.get_by_text("It can't be read either.")).to_have_count(2)
    await expect(page.page.locator("#view .box.bad")).to_have_count(1)
    await expect(page.page.locator("#view canvas")).to_have_count(0)


async def test_a_rebuild_is_seen_everywhere_and_its_end_is_told(page: Tab, service: Canned) -> None:
    service.reading = lambda: reading(rebuild=rebuild())
    await page.show()
    await page.says("A rebuild of balance runs: 25 %.", where="#troubles")
    await page.page.set_viewport_size({"width": 320, "height": 640})
    await expect(page.page.get_by_role("link", name="See the rebuild")).to_be_in_viewport(ratio=1)
    service.reading = lambda: reading(rebuild=rebuild("done", done=10))
    await page.says("The rebuild of balance is done.", where="#notices")
    await expect(page.page.locator("#troubles")).not_to_contain_text("rebuild")
    service.reading = lambda: reading(rebuild={**rebuild("cancelled"), "id": "r2"})
    await page.says("The rebuild of balance is cancelled.", where="#notices")
    await page.page.reload()
    await page.says("Live", where="#live")
    await expect(page.page.locator(".notice")).to_have_count(0)


async def test_a_term_is_explained_where_it_stands(page: Tab) -> None:
    for view, term in (
        ("partitions", "epoch"),
        ("partitions", "checkpoint"),
        ("rebuild", "generation"),
        (f"accounts/{ADA}", "fold"),
    ):
        await page.show(view)
        await page.page.get_by_role("button", name=f"What does {term} mean?").first.click()
        await expect(dialog(page).get_by_role("heading")).to_have_text(term.capitalize())
        name = await dialog(page).locator("code").inner_text()
        assert (Path(__file__).parents[2] / name).is_file()
        await page.press("Close")
        await expect(dialog(page)).to_have_count(0)
