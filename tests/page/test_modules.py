"""The page's pure modules, asked in the browser that will run them."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from api.balances.app import create_app
from tests.conftest import placed
from tests.page.browser import Tab, tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEFORE: Final = "2026-11-27T13:00:00.000Z"
NOW: Final = "2026-11-27T14:00:00.000Z"
SINCE: Final = "2026-11-27T14:00:05.000Z"
UP: Final = [{"name": name, "state": "up", "detail": None} for name in ("mongodb", "redis")]
LOST: Final = {"name": "w1", "state": "lost", "partitions": [], "seen": NOW}
HERE: Final = {"name": "w2", "state": "here", "partitions": [], "seen": NOW}
LATE: Final = {"partition": 1, "lag_seconds": 40.0, "since": NOW}


def instance(
    role: str,
    name: str,
    state: str = "ready",
    detail: str | None = None,
    since: str = BEFORE,
    seen: str = NOW,
) -> Any:
    names = {"role": role, "name": name, "state": state, "detail": detail}
    return {**names, "since": since, "seen": seen, "rate": 1.0}


def instances(**states: str) -> list[dict[str, Any]]:
    """One of each role that takes part, in its state by its role."""
    names = {"accounts": "a1", "forwarder": "f1", "worker": "w2", "balances": "b1"}
    return [instance(role, name, states.get(role, "ready")) for role, name in names.items()]


def projected(**changes: Any) -> dict[str, Any]:
    return {"projection": "balance", "parked": 0, "alarm": None, "furthest": None, **changes}


def late(projection: str = "balance", **changes: Any) -> dict[str, Any]:
    is_late = {"projection": projection, "alarm": "red", "lag_seconds": 40.0, "furthest": LATE}
    return projected(**{**is_late, **changes})


BOTH: Final = "balance and statement"
RENEWED: Final = [*instances(), instance("accounts", "a4", since=SINCE)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    """A tab at a service that has nothing but the page's files: all its servers are away."""
    app = create_app(placed(tmp_path_factory.mktemp("page")))
    async with TestServer(app) as server:
        address = str(server.make_url("")).rstrip("/")
        async with tab(browser, address, refusals=True) as opened:
            await opened.page.goto(f"{address}/ui/icon.svg")
            yield opened


def reading(*owners: str | None, **changes: Any) -> dict[str, Any]:
    """A reading of a bank that is well, but for the changes."""
    partitions = [
        {"partition": number, "owner": owner, "owner_unknown": None}
        for number, owner in enumerate(owners)
    ]
    return {
        "servers": UP,
        "forwarder": {"leader": "me", "unknown": None},
        "workers": [HERE],
        "workers_unknown": None,
        "instances": instances(),
        "instances_unknown": None,
        "partitions": partitions,
        "forwarded": {"alarm": None, "lag_seconds": 0.0},
        "projected": [projected()],
        **changes,
    }


async def ask(page: Tab, module: str, name: str, *given: Any) -> Any:
    """What a function of a module makes of it."""
    return await page.page.evaluate(
        "([module, name, given]) => import(`/ui/${module}.js`).then((it) => it[name](...given))",
        [module, name, list(given)],
    )


@pytest.mark.parametrize(
    ("call", "given", "text"),
    [
        ("whole", 1234567, "1,234,567"),
        ("whole", 2**53 - 1, "9,007,199,254,740,991"),
        ("signed", -80, "−80"),
        ("signed", 1200, "+1,200"),
        ("signed", 0, "0"),
        ("rate", 0, "0.0"),
        ("rate", 9.94, "9.9"),
        ("rate", 1234.5, "1,235"),
        ("span", 0.04, "0.0 s"),
        ("span", 12.4, "12 s"),
        ("span", 200, "3 min 20 s"),
        ("span", 7500, "2 h 5 min"),
        ("span", 200000, "2 d 7 h"),
        ("milliseconds", 4.06, "4.1 ms"),
        ("milliseconds", -812.4, "−812 ms"),
        ("milliseconds", 79134.5, "1 min 19 s"),
        ("clock", "2026-11-27T14:02:33.5+01:00", "13:02:33"),
        ("ranges", [3, 0, 1, 2, 5, 8, 7], "0–3, 5 and 7, 8"),
        ("partitionsOf", [4], "partition 4"),
        ("titleOf", "insufficient-funds", "Insufficient funds"),
    ],
)
async def test_figures_are_told(page: Tab, call: str, given: Any, text: str) -> None:
    assert await ask(page, "core/format", call, given) == text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (reading("w2", "w2"), []),
        (reading("w2", None), ["Partition 1 has no worker."]),
        (reading(None, None, workers=[]), ["No partition has a worker."]),
        (reading("w2", "w1", workers=[HERE, LOST]), ["Worker w1 does not answer."]),
        # It has been away for long: what is free now was not its own.
        (
            reading("w2", None, workers=[HERE, LOST], at="2026-11-27T14:02:00.000Z"),
            ["Partition 1 has no worker."],
        ),
        # Others have taken over what it had.
        (reading("w2", "w2", workers=[HERE, LOST]), []),
        (
            reading(
                *("w2", "w2"),
                workers=[HERE, LOST],
                instances=[*instances(), instance("worker", "w1", "silent")],
            ),
            ["Worker w1 does not answer."],
        ),
        (reading("w2", instances=instances(accounts="silent")), ["No account service answers."]),
        (reading("w2", instances=instances(accounts="ended")), ["No account service runs."]),
        (reading("w2", instances=[]), ["No account service has answered yet."]),
        (reading("w2", instances=[], instances_unknown="NATS does not answer"), []),
        (
            reading("w2", instances=[*instances(), instance("accounts", "a2", "silent")]),
            ["Account service a2 does not answer."],
        ),
        (reading("w2", instances=[*instances(), instance("accounts", "a2", "ended")]), []),
        # A younger one has taken its place, and of two only one.
        (reading("w2", instances=[*RENEWED, instance("accounts", "a2", "silent")]), []),
        (
            reading(
                "w2",
                instances=[
                    *RENEWED,
                    instance("accounts", "a2", "silent"),
                    instance("accounts", "a3", "silent"),
                ],
            ),
            ["Account service a3 does not answer."],
        ),
        (
            reading("w2", instances=[*instances(), instance("worker", "w3", "waiting", "Wait.")]),
            ["Worker w3 is not ready."],
        ),
        (
            reading("w2", forwarder={"leader": None, "unknown": None}),
            ["No forwarder leads."],
        ),
        (reading("w2", forwarder={"leader": None, "unknown": "Redis is silent"}), []),
        (
            reading("w2", servers=[{"name": "nats", "state": "down", "detail": "no answer"}]),
            ["NATS is down."],
        ),
        (
            reading("w2", servers=[{"name": "nats", "state": "slow", "detail": "no answer"}]),
            ["NATS is slow."],
        ),
        (
            reading("w2", servers=[{"name": "nats", "state": "silent", "detail": "no answer"}]),
            ["NATS does not answer."],
        ),
        (
            reading("w2", projected=[projected(alarm="red", lag_seconds=40.0, furthest=LATE)]),
            ["balance is 40 s behind."],
        ),
        (
            reading("w2", forwarded={"alarm": "amber", "lag_seconds": 6.0}),
            ["The stream is late."],
        ),
        (reading("w2", projected=[late(), late("statement")]), [f"{BOTH} are 40 s behind."]),
        (
            reading("w2", projected=[late(), late("statement", lag_seconds=12.0)]),
            ["balance is 40 s and statement is 12 s behind."],
        ),
        (reading("w2", projected=[projected(parked=2)]), ["2 accounts are parked."]),
        (reading("w2", projected=[projected(parked=None)]), []),
        (
            reading("w2", projected=[projected(parked=None, last_parked=1)]),
            ["1 account was parked."],
        ),
    ],
)
async def test_troubles_are_told(page: Tab, given: dict[str, Any], said: list[str]) -> None:
    found = await ask(page, "core/troubles", "troubles", given)
    assert [each["what"] for each in found] == said


FROZEN: Final = reading(
    "w2",
    "w2",
    instances=instances(worker="silent"),
    projected=[late(), late("statement")],
)
"""An only worker, whose leases have not run out."""

STOPPED: Final = {"alarm": "amber", "lag_seconds": 38.0}


@pytest.mark.parametrize(
    ("given", "cause", "within"),
    [
        (
            FROZEN,
            "No worker answers.",
            ["Worker w2 does not answer.", f"{BOTH} are 40 s behind."],
        ),
        (
            reading("w2", None, workers=[HERE, LOST], projected=[late()]),
            "Worker w1 does not answer.",
            ["Partition 1 has no worker.", "balance is 40 s behind."],
        ),
        (
            reading("w1", "w3", "w2", workers=[HERE, LOST, {**LOST, "name": "w3"}]),
            "2 workers do not answer.",
            ["Worker w1 does not answer.", "Worker w3 does not answer."],
        ),
        (
            reading("w2", instances=instances(forwarder="silent"), forwarded=STOPPED)
            | {"projected": [late()]},
            "No forwarder answers.",
            ["The stream is late.", "balance is 40 s behind."],
        ),
    ],
)
async def test_what_follows_from_a_cause_stands_within_it(
    page: Tab, given: dict[str, Any], cause: str, within: list[str]
) -> None:
    [found] = await ask(page, "core/troubles", "troubles", given)
    assert (found["what"], found["bad"]) == (cause, True)
    assert [each["what"] for each in found["within"]] == within


async def test_lag_has_a_cause_of_its_own_where_no_other_explains_it(page: Tab) -> None:
    slow = [late(furthest={**LATE, "partition": 0})]
    lost = reading("w2", "w1", workers=[HERE, LOST], projected=slow)
    assert await whats(page, lost) == ["Worker w1 does not answer.", "balance is 40 s behind."]
    stream = reading("w2", forwarded={"alarm": "amber", "lag_seconds": 6.0}, projected=slow)
    assert await whats(page, stream) == ["balance is 40 s behind.", "The stream is late."]


async def whats(page: Tab, given: dict[str, Any]) -> list[str]:
    return [each["what"] for each in await ask(page, "core/troubles", "troubles", given)]


AMBER: Final = late(alarm="amber", lag_seconds=6.0)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ([AMBER], [late(alarm="amber", lag_seconds=7.0)], True),
        ([AMBER], [late()], False),
        ([AMBER], [AMBER, {**AMBER, "projection": "statement"}], False),
    ],
)
async def test_what_is_wrong_is_said_again_when_it_is_worse(
    page: Tab, before: list[Any], after: list[Any], same: bool
) -> None:
    async def signs(found: list[Any]) -> list[str]:
        every = await ask(page, "core/troubles", "troubles", reading("w2", projected=found))
        return [await ask(page, "core/troubles", "sign", each) for each in every]

    assert (await signs(before) == await signs(after)) is same


async def test_what_is_within_is_said_too(page: Tab) -> None:
    [found] = await ask(page, "core/troubles", "troubles", FROZEN)
    said = f"No worker answers. Worker w2 does not answer. {BOTH} are 40 s behind."
    assert await ask(page, "core/troubles", "worded", found) == said
    alone = {**found, "within": found["within"][:1]}
    signs = [await ask(page, "core/troubles", "sign", each) for each in (found, alone)]
    assert signs[0] != signs[1]


@pytest.mark.parametrize(
    ("parked", "more"),
    [
        ((1, 1), ""),
        ((1, 0), "In balance alone."),
        ((2, 1), "2 in balance and 1 in statement."),
        ((2, None), "In balance."),
        ((2, 2, None), "2 in balance and 2 in statement."),
        ((2, 0, None), "In balance."),
    ],
)
async def test_parked_accounts_are_told_once(
    page: Tab, parked: tuple[int | None, ...], more: str
) -> None:
    names = zip(("balance", "statement", "report"), parked, strict=False)
    all_of_them = [projected(projection=name, parked=number) for name, number in names]
    given = reading("w2", projected=all_of_them)
    [found] = await ask(page, "core/troubles", "troubles", given)
    assert found["more"] == more


def balances(*lives: tuple[str, int, int]) -> dict[str, Any]:
    """A reading with balance services: the state of each, and the minutes when it began and was
    last heard."""
    at = "2026-11-27T13:{:02}:00.000Z".format
    found = [
        instance("balances", f"b{number}", state, since=at(since), seen=at(seen))
        for number, (state, since, seen) in enumerate(lives)
    ]
    return reading("w2", instances=found)


@pytest.mark.parametrize(
    ("lives", "names"),
    [
        # One is killed twice.
        ([("silent", 0, 10), ("silent", 11, 15), ("ready", 16, 20)], []),
        # Two are replaced in turn.
        ([("silent", 0, 10), ("silent", 0, 12), ("ready", 11, 20), ("ready", 13, 20)], []),
        # The new one was at work before the old one ended; another time it is no new one.
        ([("silent", 0, 12), ("ready", 12, 20)], []),
        ([("silent", 0, 12), ("ready", 0, 20)], ["b0"]),
        ([("silent", 0, 12), ("ready", 5, 20)], ["b0"]),
        # A replacement that is silent itself, and one for two.
        ([("silent", 0, 10), ("silent", 11, 15), ("ready", 0, 20)], ["b1"]),
        ([("silent", 0, 10), ("silent", 0, 10), ("ready", 11, 20)], ["b1"]),
        # A frozen one takes no replacement from one that was killed before.
        ([("silent", 0, 10), ("silent", 0, 11), ("ready", 11, 20)], ["b1"]),
    ],
)
async def test_a_process_that_was_replaced_is_not_missed(
    page: Tab, lives: list[tuple[str, int, int]], names: list[str]
) -> None:
    found = await ask(page, "core/instances", "missed", balances(*lives), "balances")
    assert [each["name"] for each in found] == names


async def test_a_worker_has_one_last_answer(page: Tab) -> None:
    asked = reading("w2", instances=[{**instance("worker", "w2", "silent"), "seen": SINCE}])
    assert await ask(page, "core/instances", "lastAnswer", asked, HERE) == SINCE
    assert await ask(page, "core/instances", "lastAnswer", reading("w2", instances=[]), HERE) == NOW
    [group] = await ask(page, "core/groups", "groups", asked, asked["partitions"])
    assert group["seen"] == SINCE


async def test_what_an_older_service_leaves_out_is_unknown(page: Tab) -> None:
    old = reading("w2", at=NOW, stored={"rate": 1.0})
    old["forwarded"] |= {"rate": 1.0}
    del old["instances"], old["instances_unknown"]
    old["servers"] = [{"name": "nats", "up": False, "detail": None}]
    found = await ask(page, "core/reading", "completed", old, None)
    assert found["commands"]["rate"] is None
    assert found["instances_unknown"]
    said = await ask(page, "core/troubles", "troubles", found)
    assert [each["what"] for each in said] == ["NATS is down."]


async def test_a_page_whose_script_another_release_does_not_have_says_so(page: Tab) -> None:
    another = await page.page.context.new_page()
    await another.route("**/ui/joined.js?*", lambda route: route.fulfill(status=404))
    await another.goto(f"{page.address}/ui")
    await expect(another.locator("main")).to_contain_text("load the page again")
    await expect(another.locator(".unloaded")).to_have_css("visibility", "visible")
    await another.unroute_all()
    await another.reload()
    await expect(another.locator("h1")).to_be_visible()
    await expect(another.locator(".unloaded")).to_have_count(0)
    await another.close()


async def test_how_many_were_parked_is_known_from_before(page: Tab) -> None:
    read = """async (all) => {
      const { completed } = await import('/ui/core/reading.js');
      let before = null;
      for (const each of all) before = completed(each, before);
      return before.projected.map((each) => each.last_parked);
    }"""

    async def last(*parked: int | None) -> Any:
        readings = [reading("w2", projected=[projected(parked=each)]) for each in parked]
        return await page.page.evaluate(read, readings)

    assert await last(2, None, None) == [2]
    assert await last(2, None, 0) == [0]
    assert await last(None) == [None]


async def test_a_late_projection_leads_to_its_own_partitions(page: Tab) -> None:
    late = projected(projection="statement", alarm="red", lag_seconds=40.0, furthest=LATE)
    given = reading("w2", projected=[projected(), late])
    [found] = await ask(page, "core/troubles", "troubles", given)
    assert found["href"] == "#/partitions?projection=statement"


@pytest.mark.parametrize(
    ("command", "account", "status", "asked"),
    [
        ("01JD0000000000000000000ADA", "A", 200, [None]),
        ("01JD0000000000000000000ADA", "A", 404, [None, "A"]),
        ("01JD0000000000000000000ADA", "A", 503, [None]),
        ("01JD0000000000000000000ADA", None, 404, [None]),
        ("order 7", "A", 200, ["A"]),
    ],
)
async def test_a_trace_names_an_account_only_where_that_is_needed(
    page: Tab, command: str, account: str | None, status: int, asked: list[str | None]
) -> None:
    read = """async ([id, account, status]) => {
      const { traced } = await import('/ui/core/traces.js');
      const asked = [];
      const answer = async (known) => {
        asked.push(known);
        if (status !== 200) throw { status };
      };
      await traced(id, account, answer).catch(() => {});
      return asked;
    }"""
    assert await page.page.evaluate(read, [command, account, status]) == asked


async def test_what_answers_slowly_is_asked_less_often(page: Tab) -> None:
    assert await ask(page, "core/traces", "pauseAfter", 20) == 700
    assert await ask(page, "core/traces", "pauseAfter", 4000) == 8000


async def test_stages_that_were_over_before_they_were_noted_are_told_apart(page: Tab) -> None:
    def stages(*times: str | None) -> list[dict[str, Any]]:
        return [{"at": each} for each in times]

    early, late = "2026-11-27T13:59:59.000Z", "2026-11-27T14:00:01.000Z"
    for given, since, said in (
        (stages(None, early, early, None, None, None), NOW, True),
        (stages(None, late, late, None, None, None), NOW, False),  # not yet
        (stages(None, early, early, late, late, None), NOW, False),
        (stages(None, early, None, None, None, None), NOW, False),
        (stages(None, early, early, None, None, None), None, False),
        ([], NOW, False),
    ):
        assert await ask(page, "core/traces", "unnoted", given, since) is said


@pytest.mark.parametrize(
    ("plays", "said"),
    [
        ("", [20, {}]),  # the newest, whichever that is
        ("choice.look(18, [20, 19, 18])", [18, {}]),
        ("choice.look(3, [20, 19, 18])", [3, {"version": 8}]),
        ("choice.look(99, [20])", [20, {}]),
        ("choice.look(0, [20])", [1, {"version": 6}]),
        ("choice.lookAt(opened + 5000)", [20, {"at": "2026-11-27T14:00:05.000Z"}]),
        ("choice.lookAt(opened - 5000)", [20, {"at": "2026-11-27T14:00:00.001Z"}]),
        (
            "choice.lookAt(opened + 5000), choice.took([7, 6])",
            [7, {"at": "2026-11-27T14:00:05.000Z"}],
        ),
        ("choice.took([20, 19])", [20, {}]),
        ("choice.stopped(19, [20, 19, 18])", [18, {}]),
        ("choice.stopped(7, [20, 19, 18])", [6, {"version": 11}]),
        ("choice.stopped(1, [20, 19, 1])", [1, {}]),
        ("choice.stopped(null, [20, 19, 18])", [20, {}]),
        ("choice.look(20, [20]), choice.look(18, [18]), choice.stopped(7, [20])", [18, {}]),
        ("choice.look(3, []), choice.took([8, 7])", [8, {"version": 8}]),
        ("choice.look(3, []), choice.took([8, 3])", [3, {"version": 8}]),
    ],
)
async def test_which_version_is_looked_at(page: Tab, plays: str, said: list[Any]) -> None:
    play = """async (now) => {
      const { Choice } = await import('/ui/core/choice.js');
      const [choice, opened] = [new Choice(null), Date.parse(now)];
      choice.reaches(20);
      choice.opened = opened;
      PLAYS;
      return [choice.version, choice.from];
    }"""
    assert await page.page.evaluate(play.replace("PLAYS", plays), NOW) == said


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(59, "at most 7 in the last hour."), (20, "at most 7 since 14:00 UTC.")],
)
async def test_the_highest_is_of_the_hour_only_where_that_is_known(
    page: Tab, minutes: int, words: str
) -> None:
    begin = int(datetime.fromisoformat(NOW).timestamp())
    columns = [[begin, begin + 60 * minutes], [7, None]]
    read = "(all) => import('/ui/parts/lag.js').then((it) => it.spoken(all, String))"
    assert await page.page.evaluate(read, columns) == words


FEED: Final = """async (play) => {
  const { EventFeed, KEPT } = await import('/ui/core/feed.js');
  const [real, end, asked, open] = [fetch, new AbortController(), [], new Set()];
  let [drawn, to] = [0, null];
  globalThis.fetch = async (url, { signal }) => {
    asked.push(String(url));
    open.add(signal);
    return new Response(new ReadableStream({ start(stream) {
      to = stream;
      signal.addEventListener('abort', () => (open.delete(signal), stream.error(signal.reason)));
    } }));
  };
  const event = (n) =>
    JSON.stringify({ id: `${n}`, type: 'x', subject: 'A', position: `0.${n}.0` });
  const came = (...all) => {
    const lines = all.map((n) => `data: ${event(n)}\n\n`);
    to.enqueue(new TextEncoder().encode(lines.join('')));
  };
  const until = async (holds) => {
    while (!holds()) await new Promise((on) => setTimeout(on, 10));
  };
  const hide = (hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  };
  const feed = new EventFeed(() => (drawn += 1), end.signal);
  feed.begin({ kind: '', account: '', correlation: '', text: '' });
  const waited = feed.waiting;
  await until(() => to);
  try {
    return await PLAY;
  } finally {
    end.abort();
    delete document.hidden;
    globalThis.fetch = real;
  }
}"""


async def test_a_feed_that_is_not_seen_takes_no_stream(page: Tab) -> None:
    play = """(async () => {
      came(7);
      await until(() => feed.came === 1);
      hide(true);
      const hidden = open.size;
      hide(false);
      await until(() => asked.length === 2);
      return [hidden, open.size, asked[1], waited, feed.waiting];
    })()"""
    hidden, seen, again, *waiting = await page.page.evaluate(FEED.replace("PLAY", play))
    assert (hidden, seen) == (0, 1)
    assert waiting == [True, False]
    assert again.endswith("after=0.7.0")


async def test_a_feed_stands_still_while_something_holds_it(page: Tab) -> None:
    play = """(async () => {
      const shown = () => [feed.events[0].id, feed.more];
      came(1);
      await until(() => feed.came === 1);
      feed.hold('pointer', true);
      came(2);
      await until(() => feed.came === 2);
      feed.hold('focus', true);
      const [told, before] = [[shown()], drawn];
      feed.hold('pointer', false);
      feed.pause(true);
      feed.hold('focus', false);
      const tapped = shown();
      await until(() => drawn >= before + 3);
      told.push(tapped, shown());
      feed.pause(false);
      told.push(shown());
      feed.hold('pointer', true);
      feed.hold('pointer', false);
      came(3);
      await until(() => feed.events[0].id === '3');
      return [...told, shown()];
    })()"""
    told = await page.page.evaluate(FEED.replace("PLAY", play))
    assert told[:3] == [["1", 1]] * 3
    assert told[4] == ["3", 0]


async def test_a_feed_of_many_is_drawn_seldom_and_keeps_few(page: Tab) -> None:
    play = """(async () => {
      const before = drawn;
      for (let n = 0; n < 50; n += 1) came(...Array.from({ length: 50 }, (_, k) => 50 * n + k));
      await until(() => feed.came === 2500 && drawn > before);
      return [drawn - before, feed.events.length, feed.events[0].id];
    })()"""
    drawings, kept, newest = await page.page.evaluate(FEED.replace("PLAY", play))
    assert drawings <= 10
    assert (kept, newest) == (300, "2499")


async def test_an_hour_grows_by_what_is_new_and_forgets_what_is_older(page: Tab) -> None:
    read = """async (all) => {
      const { Hour } = await import('/ui/core/hour.js');
      const hour = new Hour();
      for (const points of all) hour.take(points);
      return [hour.lag("balance"), hour.rates("balance"), hour.rates("none")];
    }"""

    def points(*at: int, **projected: Any) -> dict[str, Any]:
        figures = [float(each) for each in at]
        course = {"rate": figures, "lag_seconds": figures}
        every = {"balance": course, **projected}
        one = {"at": list(at), "commands": figures, "stored": figures}
        return {**one, "forwarded": course, "projected": every}

    lag, rates, none = await page.page.evaluate(
        read, [points(10, 20), points(20, 30), points(3620), points(5)]
    )
    assert lag == [[30, 3620], [30, 3620]]
    assert rates == [[30, 3620], [30, 3620], [30, 3620]]
    assert none == [[30, 3620], [30, 3620], [None, None]]


async def test_an_owner_that_is_unknown_is_not_nobody(page: Tab) -> None:
    given = reading("w2", None)
    given["partitions"][1]["owner_unknown"] = "Redis does not answer"
    assert await ask(page, "core/troubles", "troubles", given) == []
    groups = await ask(page, "core/groups", "groups", given, given["partitions"])
    assert [(each["name"], each["state"]) for each in groups] == [
        ("Owner unknown", "unknown"),
        ("w2", "here"),
    ]


async def test_an_answer_to_an_older_key_takes_nothing_from_the_new_one(page: Tab) -> None:
    heard = await page.page.evaluate(
        """async () => {
          const { keep, key, onRefused, refuse } = await import("/ui/core/key.js");
          const heard = [];
          onRefused((problem) => heard.push(problem));
          keep("new");
          refuse("old", "of the old one");
          refuse(null, "of none");
          heard.push(key());
          refuse("new", "of the new one");
          return [...heard, key()];
        }"""
    )
    assert heard == ["new", "of the new one", None]


@pytest.mark.parametrize(
    ("line", "what", "detail"),
    [
        ({"action": "parked-retry", "target": "01J"}, "Retry asked for: 01J", "by anonymous"),
        ({"action": "seal", "target": "", "outcome": "no room"}, "Sealed", "by anonymous, no room"),
        ({"actor": {"role": "cli", "user": "ada"}, "target": "x"}, "Key made: x", "by ada cli"),
        ({"action": "later", "target": "x"}, "later: x", "by anonymous"),
    ],
)
async def test_what_people_did_is_told(
    page: Tab, line: dict[str, Any], what: str, detail: str
) -> None:
    usual = {"id": "1", "time": NOW, "actor": {"role": "anonymous"}, "outcome": "done"}
    told = await ask(page, "core/happened", "audited", {**usual, "action": "key-created", **line})
    assert (told["what"], told["detail"]) == (what, detail)


async def test_addresses_are_read_as_they_are_written(page: Tab) -> None:
    given = ("accounts", "a/b ?", {"search": "é&=", "sort": ""})
    written = await ask(page, "core/router", "address", *given)
    assert written == "#/accounts/a%2Fb%20%3F?search=%C3%A9%26%3D"
    read = await ask(page, "core/router", "parsed", written)
    assert (read["view"], read["id"]) == ("accounts", "a/b ?")
    assert (await ask(page, "core/router", "parsed", ""))["view"] == "overview"


async def test_server_sent_events_are_read_however_they_are_cut(page: Tab) -> None:
    read = """async ([text, size]) => {
      const { events } = await import('/ui/core/events.js');
      const bytes = new TextEncoder().encode(text), found = [];
      const body = new ReadableStream({ start(to) {
        for (let at = 0; at < bytes.length; at += size) to.enqueue(bytes.slice(at, at + size));
        to.close();
      } });
      for await (const event of events(body)) found.push(event);
      return found;
    }"""
    text = ': still here\n\nevent: pipeline\ndata: {"a": "é"}\n\ndata: 1\ndata: 2\n\n'
    for size in (1, 2, 7, 1000):
        assert await page.page.evaluate(read, [text, size]) == [
            {"event": "pipeline", "data": '{"a": "é"}'},
            {"event": "message", "data": "1\n2"},
        ]


async def test_minutes_are_stacked(page: Tab) -> None:
    assert await ask(page, "parts/minutes", "stacked", [[1, 2], [10, 20], [100, 200]]) == [
        [111, 222],
        [110, 220],
        [100, 200],
    ]
    kinds = {"MoneyDeposited": {"events": 2, "money": 9}, "x": {"events": 1, "money": 0}}
    minute = {"kinds": kinds}
    assert await ask(page, "parts/minutes", "summed", minute, None, "events") == 1
    assert await ask(page, "parts/minutes", "summed", minute, ["MoneyDeposited"], "money") == 9


async def test_a_bar_has_its_rate_and_the_time_left(page: Tab) -> None:
    half = {"done": 50, "total": 100, "events_per_second": 12.5, "seconds_left": 4.0}
    part = {"partition": 0, "state": "replaying", "owner": "w1", **half}
    over = {**part, "partition": 1, "state": "replayed", "done": 100, "seconds_left": 0}
    unknown = {**part, "partition": 2, "events_per_second": 5, "seconds_left": None}
    begun = {**part, "partition": 3, "events_per_second": 0, "seconds_left": None, "done": 0}
    rebuild = {
        "id": "1",
        "projection": "balance",
        "kind": "online",
        "phase": "building",
        "started": NOW,
        "partitions": [part, over, unknown, begun],
        "done": 200,
        "total": 300,
    }
    shown = await page.page.evaluate(
        """async (rebuild) => {
          const { running } = await import('/ui/parts/running.js');
          const { render } = await import('/ui/core/dom.js');
          const place = document.createElementNS('http://www.w3.org/1999/xhtml', 'div');
          render(running(rebuild, true, () => {}), place);
          const bars = [...place.querySelectorAll('.bars li')];
          const texts = (bar) => [...bar.querySelectorAll('label, .figure, .dim, .badge')]
            .map((each) => each.textContent);
          const part = (bar) => bar.getAttribute('value') / bar.getAttribute('max');
          return bars.map((bar) => [part(bar.querySelector('progress')), ...texts(bar)]);
        }""",
        rebuild,
    )
    assert shown == [
        [0.5, "All", "50 %", "18/s", "5.7 s left"],
        [0.5, "Partition 0", "50 of 100", "13/s", "4.0 s left", "w1"],
        [1, "Partition 1", "100 of 100", "replayed", "w1"],
        [0.5, "Partition 2", "50 of 100", "5.0/s", "time left unknown", "w1"],
        [0, "Partition 3", "0 of 100", "replaying", "w1"],
    ]


def state(version: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": "A", "owner": "Ana", "balance": 0, "available": 0, "status": "open", "holds": []}
    return {**plain, "version": version, **changes}


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, state(1, balance=70), "balance 0 + 70 = 70; owner Ana; status open"),
        (state(1, balance=70), state(2, balance=45), "balance 70 − 25 = 45"),
        (state(1), state(2, owner="Bo"), "owner Ana → Bo"),
        (state(1), state(2, holds=[{"id": "H", "money": 5}]), "held 0 → 5 in 1"),
        (state(1), state(2), "nothing but the version"),
        (state(1), None, "not folded"),
        (state(1), state(2, balance=2**53 - 1), f"balance 0 + {2**53 - 1:,} = {2**53 - 1:,}"),
        (state(1), state(2, balance=2**53), "a balance that can't be shown exactly"),
    ],
)
async def test_a_step_of_the_fold_is_told(
    page: Tab, before: dict[str, Any] | None, after: dict[str, Any] | None, line: str
) -> None:
    step = {"version": 2, "event": {}, "before": before, "after": after}
    assert await ask(page, "core/steps", "folded", step) == line


async def test_what_turns_or_hides_text_is_a_mark(page: Tab) -> None:
    assert await ask(page, "parts/words", "parted", "Ada \u202elliB") == ["Ada ", "U+202E", "lliB"]
    assert await ask(page, "parts/words", "parted", "a\u2066b\u200fc") == [
        *("a", "U+2066", "b"),
        *("U+200F", "c"),
    ]
    assert await ask(page, "parts/words", "parted", "שלום 🦌") == ["שלום 🦌"]
    # In JSON the same ones are codes.
    assert await ask(page, "core/json", "pretty", ["\u202e\ufff9\x7f\u00ad\n🦌"]) == (
        '[\n  "\\u202e\\ufff9\\u007f\\u00ad\\n🦌"\n]'
    )


def entries(*balances: int) -> list[dict[str, Any]]:
    return [
        {"at": f"2026-11-27T14:{n // 60:02}:{n % 60:02}.000Z", "balance": balance}
        for n, balance in enumerate(balances)
    ]


async def test_a_chart_ends_now_and_keeps_what_is_highest_and_lowest(page: Tab) -> None:
    first = 1795788000
    now = first + 5000
    assert await ask(page, "parts/balance", "columns", entries(7), now) == [[first, now], [7, 7]]
    assert await ask(page, "parts/balance", "columns", [], now) == [[], []]
    many = [1000] * 2000
    many[1234], many[77], many[-1] = 0, 9999, 5
    times, balances = await ask(page, "parts/balance", "columns", entries(*many), now)
    assert len(times) == len(balances) <= 801
    assert times == sorted(times)
    assert (times[0], times[-1]) == (first, now)
    assert (times[balances.index(0)], times[balances.index(9999)]) == (first + 1234, first + 77)
    assert balances[-2:] == [5, 5]


ID = "01JD0000000000000000000001"


@pytest.mark.parametrize(
    ("command", "given", "body", "wrong"),
    [
        ("create", {"owner": " Ada ", "money": ""}, {"owner": "Ada", "money": 0}, []),
        ("create", {"owner": " ", "money": "0"}, {"money": 0}, ["owner"]),
        ("deposit", {"id": ID, "money": str(2**53 - 1)}, {"id": ID, "money": 2**53 - 1}, []),
        ("deposit", {"id": "ada", "money": str(2**53)}, {}, ["id", "money"]),
        ("withdraw", {"id": ID, "money": "0"}, {"id": ID}, ["money"]),
        ("withdraw", {"id": ID, "money": "1e3"}, {"id": ID}, ["money"]),
        ("hold", {"id": ID, "money": "1"}, {"id": ID, "money": 1, "seconds": 86400}, []),
        ("capture", {"id": ID, "hold": ID, "money": ""}, {"id": ID, "hold": ID}, []),
    ],
)
async def test_a_form_is_checked(
    page: Tab, command: str, given: dict[str, str], body: dict[str, Any], wrong: list[str]
) -> None:
    checked = await ask(page, "core/commands", "checked", command, given)
    assert (checked["body"], list(checked["faults"])) == (body, wrong)


@pytest.mark.parametrize(
    ("name", "more", "where"),
    [
        ("invalid-input", {"errors": [{"pointer": "#/money", "detail": "So."}]}, ["money"]),
        ("invalid-input", {"errors": [{"pointer": "#/other", "detail": "So."}]}, []),
        ("insufficient-funds", {"account": ID}, ["money"]),
        ("account-not-found", {"account": ID}, ["to"]),
        ("payee-refused", {}, ["to"]),
        ("store-unavailable", {}, []),
    ],
)
async def test_a_problem_stands_beside_its_field(
    page: Tab, name: str, more: dict[str, Any], where: list[str]
) -> None:
    problem = {"type": f"/problems/{name}", "detail": "So.", "more": more}
    body = {"from": "01JD0000000000000000000002", "to": ID, "money": 1}
    faults = await ask(page, "core/commands", "faultsOf", "transfer", problem, body)
    assert faults == dict.fromkeys(where, "So.")
