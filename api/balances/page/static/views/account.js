// One account: its balance and how that came to be, and whether the event store knows more.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { patch } from "../core/patch.js";
import { Resource } from "../core/resource.js";
import { may } from "../core/roles.js";
import { accountHead } from "../parts/account.js";
import { balanceChart } from "../parts/balance.js";
import { behind } from "../parts/behind.js";
import { eventList } from "../parts/eventlist.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { statement } from "../parts/statement.js";

export const title = "Account";

const EVERY_MS = 3_000;

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, route, who }) {
  const base = `/${encodeURIComponent(route.id)}`;
  const [state, head, fresh] = [h("div"), h("div"), h("div")];
  const [over, entries, events] = [h("div"), h("div"), h("div")];
  place.append(
    h("p", { class: "crumbs" }, h("a", { href: "#/accounts" }, "All accounts")),
    state,
    head,
    fresh,
    h("section", { "aria-labelledby": "over" }, h("h2", { id: "over" }, "Balance over time"), over),
    h("section", { "aria-labelledby": "entries" }, h("h2", { id: "entries" }, "Statement"), entries),
    h("section", { "aria-labelledby": "stored" }, h("h2", { id: "stored" }, "Events in the store"), events),
  );
  const parts = [
    balanceChart(over, base, signal),
    statement(entries, base, signal),
    eventList(events, base, signal),
  ];
  const check = behind(fresh, route.id, may(who(), "watch"), signal);
  let version = null;
  const document = new Resource(
    (stop) => get(path(base), { signal: stop }),
    () => render(),
    signal,
  );

  function render() {
    const found = document.value;
    patch(state, condition(document));
    head.className = soundness(document);
    patch(head, found && accountHead(found, route.id), readAt(document));
    if (!found || document.problem) return;
    check(found);
    if (found.version !== version) parts.forEach((refresh) => refresh());
    version = found.version;
  }

  document.refresh();
  parts.forEach((refresh) => refresh());
  live.addEventListener(
    "change",
    () => live.state !== "paused" && document.age > EVERY_MS && document.refresh(),
    { signal },
  );
}
