// One account: its balance and how that came to be, in time, and whether the event store knows more.

import { get, path } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { may } from "../core/roles.js";
import { accountHead } from "../parts/account.js";
import { balanceChart } from "../parts/balance.js";
import { behind } from "../parts/behind.js";
import { History } from "../parts/history.js";
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
  const past = new History(route.id, route.query, () => draw(), signal);
  const document = new Resource((stop) => get(path(base), { signal: stop }), read, signal);
  /** The version that the parts were read for; 0 is that of a document that can't be read. */
  let version = null;

  const isGone = () => !document.value && Boolean(document.problem?.is("account-not-found"));

  function read() {
    draw();
    const found = document.value;
    if (isGone()) return;
    if (found && !document.problem) check.look(found);
    const now = found?.version ?? 0;
    if (now === version) return;
    version = now;
    [chart, entries].forEach((each) => each.refresh());
    past.refresh(now);
  }

  const parts = () => [
    section("over", "Balance over time", chart.shown()),
    section("past", "In time", past.shown()),
    section("entries", "Statement", entries.shown()),
  ];

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
        isGone() || parts(),
      ],
      place,
    );

  draw();
  document.refresh();
  live.addEventListener(
    "change",
    () => live.state !== "paused" && document.age > EVERY_MS && document.refresh(),
    { signal },
  );
}
