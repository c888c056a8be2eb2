// One account: its balance and how that came to be, in time, and whether the event store knows more.

import { get, path } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { may } from "../core/roles.js";
import { accountHead } from "../parts/account.js";
import { balanceChart } from "../parts/balance.js";
import { behind } from "../parts/behind.js";
import { commandLinks, commandsFor, holdLinks } from "../parts/command.js";
import { History } from "../parts/history.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { statement } from "../parts/statement.js";

export const title = "Account";

const EVERY_MS = 3_000;

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, route, who }) {
  const base = `/${encodeURIComponent(route.id)}`;
  const draw = () => render(content(), place);
  const document = new Resource((stop) => get(path(base), { signal: stop }), read, signal);
  const store = behind(route.id, may(who(), "watch"), draw, signal);
  const chart = balanceChart(base, draw, signal);
  const entries = statement(base, route, draw, signal);
  const past = new History(route, draw, signal);
  const parts = [chart.resource, entries.list, past];
  let version = null;

  /** The parts are read when the document is, and whenever it has another version. */
  function read() {
    const found = document.value;
    if (!unknown(document) && (version === null || (found && found.version !== version))) {
      version = found?.version ?? 0;
      past.reaches(version);
      parts.forEach((each) => each.refresh());
    }
    if (found && !document.problem) store.look(found);
    draw();
  }

  // All at once, so that nothing that is shown is pushed away by what comes later.
  const waiting = () => document.waiting || (!unknown(document) && parts.some((each) => each.waiting));

  /** One reason is told once. */
  const told = (part, shown) =>
    part.failedAs(document.problem) ? h("p", { class: "dim" }, "It can't be read either.") : shown();

  const content = () => [
    h("p", { class: "crumbs" }, h("a", { href: "#/accounts" }, "All accounts")),
    waiting() ? h("p", { class: "dim" }, "Reading…") : condition(document),
    !waiting() &&
      !unknown(document) && [
        h(
          "div",
          { class: soundness(document) },
          document.value && accountHead(document.value, route.id),
          readAt(document),
        ),
        commandsFor(who()).length > 0 && [
          h("p", null, "Do something: ", commandLinks(who(), route.id)),
          h("div", null, holdLinks(who(), route.id, past.holds)),
        ],
        h("div", null, store.shown()),
        section("over", "Balance over time", told(chart.resource, chart.shown)),
        section("past", "In time", past.shown()),
        section("entries", "Statement", told(entries.list, entries.shown)),
      ],
  ];

  draw();
  document.refresh();
  live.addEventListener("change", () => live.state !== "paused" && document.keep(EVERY_MS), { signal });

  return (turned) => {
    entries.turn(turned);
    past.turn(turned);
  };
}

/** Whether there is no such account, or not for this reader; then there is nothing else to say of it. */
const unknown = ({ problem }) => [400, 403, 404].includes(problem?.status);
