// Wires the page: who it is for, the stream of readings, and the view that the address names.

import { get } from "./core/api.js";
import { byId, h, render } from "./core/dom.js";
import { onChange } from "./core/key.js";
import { Live } from "./core/live.js";
import { BANK, HOUSE, TITLE } from "./core/names.js";
import { may } from "./core/roles.js";
import { parsed } from "./core/router.js";
import { askForKey, endOf, showWho } from "./parts/key.js";
import { problemBox } from "./parts/problems.js";
import { standing } from "./parts/standing.js";
import * as account from "./views/account.js";
import * as accounts from "./views/accounts.js";
import * as overview from "./views/overview.js";
import * as parked from "./views/parked.js";
import * as partitions from "./views/partitions.js";
import * as rebuild from "./views/rebuild.js";

/**
 * What a view is given.
 * @typedef {{live: Live, signal: AbortSignal, route: import("./core/router.js").Route,
 *   who: () => import("./core/shapes.js").Who | null}} Context `signal` aborts when another view comes
 */

const VIEWS = { overview, partitions, rebuild, parked, ...(BANK && { accounts }) };
/** Those that take no observer's role. */
const EVERYBODYS = new Set(["accounts"]);

const live = new Live();
let who = null;
let showing = new AbortController();

const viewOf = (route) => (BANK && route.view === "accounts" && route.id ? account : VIEWS[route.view]);

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
  document.title = `${title} · ${TITLE}`;
  render(content, place);
  return place;
}

function show({ focus = true } = {}) {
  const route = parsed(location.hash);
  const view = viewOf(route);
  const place = page(view?.title ?? "There is no such page");
  for (const link of byId("views").querySelectorAll("a")) mark(link, route.view);
  if (focus) byId("view").firstChild.focus();
  if (view && !EVERYBODYS.has(route.view) && !may(who, "watch"))
    render(
      h("p", { class: "box" }, `This takes a viewer's or an operator's key. Yours is a ${who.role}'s.`),
      place,
    );
  else view?.show(place, { live, signal: showing.signal, route, who: () => who });
}

function mark(link, view) {
  const name = parsed(new URL(link.href).hash).view;
  if (name === view) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
  link.parentElement.hidden = !EVERYBODYS.has(name) && !may(who, "watch");
}

/** Learn who this is, then show all anew: another key may see other things. */
async function begin() {
  try {
    who = await get("/whoami");
  } catch (problem) {
    who = null;
    if (problem.status === 401) askForKey(problem);
    else return fail(problem);
  } finally {
    showWho(who);
  }
  byId("key-end").textContent = endOf(who) ?? "";
  if (who === null)
    return page("A key is needed", h("p", null, `Nothing is shown without a key of this ${HOUSE}.`));
  if (BANK && parsed(location.hash).view === "overview" && !may(who, "watch")) location.replace("#/accounts");
  if (may(who, "watch")) live.start();
  show({ focus: false });
}

const fail = (problem) => page(TITLE, problemBox(problem, begin));

live.addEventListener("change", () => standing(live));
onChange(() => location.reload());
addEventListener("hashchange", () => who && show());
byId("skip").onclick = (event) => {
  event.preventDefault();
  byId("view").querySelector("h1")?.focus();
};
begin();
