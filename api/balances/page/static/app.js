// Wires the page: who it is for, the stream of readings, and the view that the address names.

import { alarm, titled } from "./core/alarm.js";
import { get } from "./core/api.js";
import { byId, h, render } from "./core/dom.js";
import { onChange, onRefused } from "./core/key.js";
import { Live } from "./core/live.js";
import { BANK, HOUSE, TITLE } from "./core/names.js";
import { may } from "./core/roles.js";
import { parsed } from "./core/router.js";
import { Scrolled } from "./core/scrolled.js";
import { askForKey, endOf, showWho } from "./parts/key.js";
import { problemBox } from "./parts/problems.js";
import { rebuildNews } from "./parts/rebuildnews.js";
import { standing } from "./parts/standing.js";
import * as account from "./views/account.js";
import * as accounts from "./views/accounts.js";
import * as command from "./views/command.js";
import * as event from "./views/event.js";
import * as events from "./views/events.js";
import * as timeline from "./views/timeline.js";
import * as overview from "./views/overview.js";
import * as parked from "./views/parked.js";
import * as partitions from "./views/partitions.js";
import * as rebuild from "./views/rebuild.js";
import * as trace from "./views/trace.js";

/**
 * What a view is given. Its `show` may return a function: that is called with the route when the address
 * changes within the view, behind the `?`.
 * @typedef {{live: Live, signal: AbortSignal, route: import("./core/router.js").Route,
 *   who: () => import("./core/shapes.js").Who | null}} Context `signal` aborts when another view comes
 */

// Addresses name views: nothing that every object has is one.
const VIEWS = { __proto__: null, overview, partitions, events, trace, timeline, rebuild, parked, ...(BANK && { accounts, command }) };
/** Those that other keys than an observer's show. */
const OPEN = {
  accounts: () => true,
  command: () => true,
  events: (who) => may(who, "list"),
  trace: (who) => may(who, "list"),
};

const mayShow = (view) => (OPEN[view] ?? ((who) => may(who, "watch")))(who);

const live = new Live();
const scrolled = new Scrolled();
let who = null;
let showing = new AbortController();
let shown = null;
let turned = null;

/** The views of one of what another view lists. */
const ONE = { __proto__: null, events: event, ...(BANK && { accounts: account }) };

const viewOf = (route) => (route.id && ONE[route.view]) || VIEWS[route.view];

/** A new page under this title, with this in it; what was there before goes. Where its content is. */
function page(title, ...content) {
  const [heading, place] = [document.createElement("h1"), document.createElement("div")];
  heading.tabIndex = -1;
  heading.textContent = title;
  place.className = "view";
  showing.abort();
  showing = new AbortController();
  showing.signal.addEventListener("abort", () => render(null, place));
  byId("view").replaceChildren(heading, place);
  titled(`${title} · ${TITLE}`);
  shown = turned = null;
  render(content, place);
  return place;
}

function show(route) {
  const view = viewOf(route);
  const place = page(view?.title ?? "There is no such page");
  if (route.id) titled(`${view?.title} ${route.id} · ${TITLE}`);
  for (const link of byId("views").querySelectorAll("a")) mark(link, route.view);
  shown = route;
  if (!view) render(h("p", null, h("a", { href: `#/${home()}` }, "To the first page")), place);
  else if (!mayShow(route.view)) render(notForThem(), place);
  else turned = view.show(place, { live, signal: showing.signal, route, who: () => who });
}

const home = () => (BANK && !may(who, "watch") ? "accounts" : "overview");

const notForThem = () => [
  h("p", { class: "box" }, `This takes a viewer's or an operator's key. Yours is a ${who.role}'s.`),
  BANK && h("p", null, h("a", { href: "#/accounts" }, "To the accounts")),
];

function mark(link, view) {
  const name = parsed(new URL(link.href).hash).view;
  if (name === view) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
  link.parentElement.hidden = !mayShow(name);
}

/** The address is another one: of another view, or of another page of this one. */
function moved() {
  const back = scrolled.moved();
  if (who === null) return;
  const route = parsed(location.hash);
  if (shown?.view === route.view && shown.id === route.id) turned?.((shown = route));
  else {
    show(route);
    byId("view").firstChild.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  if (back) scrolled.restore(back);
}

/** Learn who this is, then show all anew: another key may see other things. */
async function begin() {
  try {
    who = await get("/whoami");
  } catch (problem) {
    if (problem.status !== 401) page(TITLE, problemBox(problem, begin));
    return;
  } finally {
    showWho(who);
  }
  byId("key-end").textContent = endOf(who) ?? "";
  if (parsed(location.hash).view === "overview" && home() !== "overview") location.replace(`#/${home()}`);
  if (may(who, "watch")) live.start();
  show(parsed(location.hash));
}

/** The key is refused: nothing of what it showed stays. */
function lock(problem) {
  who = null;
  live.end();
  showWho(who);
  page("A key is needed", h("p", null, `Nothing is shown without a key of this ${HOUSE}.`));
  askForKey(problem);
}

live.addEventListener("change", () => standing(live));
live.addEventListener("change", () => alarm(live));
live.addEventListener("change", rebuildNews(live));
onChange(() => location.reload());
onRefused(lock);
addEventListener("hashchange", moved);
byId("skip").onclick = (event) => {
  event.preventDefault();
  byId("view").querySelector("h1")?.focus();
};
begin();
