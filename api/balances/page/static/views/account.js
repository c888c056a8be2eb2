// One account: its balance and how that came to be, and whether the event store knows more.

import { get, path } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
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
  const check = behind(route.id, may(who(), "watch"), () => draw(), signal);
  const chart = balanceChart(base, () => draw(), signal);
  const entries = statement(base, () => draw(), signal);
  const events = eventList(base, () => draw(), signal);
  const refresh = () => [chart, entries, events].forEach((each) => each.refresh());
  let version = null;
  const document = new Resource((stop) => get(path(base), { signal: stop }), read, signal);

  function read() {
    draw();
    const found = document.value;
    if (!found || document.problem) return;
    check.look(found);
    if (found.version !== version) refresh();
    version = found.version;
  }

  const draw = () =>
    render(
      [
        h("p", { class: "crumbs" }, h("a", { href: "#/accounts" }, "All accounts")),
        condition(document),
        h(
          "div",
          { class: soundness(document) },
          document.value && accountHead(document.value, route.id),
          readAt(document),
        ),
        h("div", null, check.shown()),
        section("over", "Balance over time", chart.shown()),
        section("entries", "Statement", entries.shown()),
        section("stored", "Events in the store", events.shown()),
      ],
      place,
    );

  draw();
  document.refresh();
  refresh();
  live.addEventListener(
    "change",
    () => live.state !== "paused" && document.age > EVERY_MS && document.refresh(),
    { signal },
  );
}
