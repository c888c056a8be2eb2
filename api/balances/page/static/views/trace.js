// One command, by its correlation id: when each of its events passed which stage. And how long the stages took
// lately.

import { get, path } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
import { counted, milliseconds } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { address, altered } from "../core/router.js";
import { pauseAfter, traced } from "../core/traces.js";
import { figure } from "../parts/figures.js";
import { kindName } from "../parts/kinds.js";
import { accountLink, eventLink } from "../parts/links.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { table } from "../parts/tables.js";
import { STAGES, stations, whereabouts } from "../parts/trace.js";

export const title = "Trace of a command";

const PATIENCE_MS = 60_000;
const FIGURES_MS = 5_000;

const LEAD =
  "Every command has a correlation id: the answer has it as X-Correlation-ID, its events and every line of the log, too.";

const EXPLAIN = "Explain each stage";
const HIDE = "Without explanations";

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, route }) {
  const account = () => route.query.get("account");
  const walk = () => route.query.get("explain") === "yes";
  const began = Date.now();
  let followed = false;
  const trace = new Resource(
    (stop) =>
      traced(route.id, account(), (known) =>
        get(path(`/traces/${encodeURIComponent(route.id)}`, { account: known }), { signal: stop }),
      ),
    () => draw(),
    signal,
  );
  const lately = new Resource(
    (stop) => get("/stages", { signal: stop }),
    () => draw(),
    signal,
  );
  const draw = () =>
    render(
      [
        h("p", { class: "lead" }, LEAD),
        finder(route.id ?? "", account() ?? ""),
        route.id !== null && [
          condition(trace),
          h("p", null, h("a", { href: altered(route, { explain: walk() ? "" : "yes" }) }, walk() ? HIDE : EXPLAIN)),
          h("div", { class: soundness(trace) }, trace.value?.events.map((each) => event(each, walk(), trace.value.noted_since)), readAt(trace)),
        ],
        // Not before what stands above it, which would push it down.
        (route.id === null || followed || trace.value?.events.length > 0) &&
          section("lately", "How long each stage took lately", condition(lately), figures(lately)),
      ],
      place,
    );

  async function follow() {
    let last = route.id === null;
    while (!signal.aborted && !last) {
      const asked = performance.now();
      await trace.refresh();
      const pause = pauseAfter(performance.now() - asked);
      if (trace.problem || Date.now() - began > PATIENCE_MS) break;
      last = trace.value?.events.every(arrived);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    // A document can be read before it is known when it was written.
    if (last && !signal.aborted && route.id !== null) await trace.refresh();
    if (signal.aborted) return;
    followed = true;
    draw();
  }

  draw();
  follow();
  live.follow(() => live.state !== "paused" && lately.keep(FIGURES_MS), signal);
  return (turned) => {
    route = turned;
    if (route.id !== null) trace.refresh();
    draw();
  };
}

/** Whether nothing more will be learned of it. */
const arrived = ({ version, projections }) =>
  projections.every((each) => each.left_out || each.parked || each.document_version >= version);

function finder(id, account) {
  const find = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    if (given.id.trim()) location.hash = address("trace", given.id.trim(), { account: given.account.trim() });
  };
  const field = (name, words, value) =>
    h(
      "p",
      { class: "field grow" },
      h("label", { for: `trace-${name}` }, words),
      h("input", { id: `trace-${name}`, name, type: "search", defaultValue: value, autocomplete: "off", spellcheck: false }),
    );
  return h(
    "form",
    { class: "tools", role: "search", onsubmit: find },
    field("id", "Correlation id", id),
    field("account", "An account of it, if it is not of the last hour", account),
    h("button", { class: "main" }, "Trace"),
  );
}

const event = (each, walk, since) =>
  h(
    "section",
    { key: each.event_id, "aria-label": `${kindName(each.kind)}, version ${each.version} of ${each.account_id}` },
    h(
      "h2",
      null,
      eventLink(each.account_id, each.version, kindName(each.kind)),
      h("span", { class: "dim" }, `, version ${each.version} of `),
      accountLink(each.account_id),
    ),
    h("p", null, whereabouts(each)),
    stations(each, walk, since),
  );

const COLUMNS = [
  { name: "Stage" },
  { name: "Half took at most", figures: true },
  { name: "99 of 100 took at most", figures: true },
  { name: "Events", figures: true },
];

const took = (value) => figure(value, milliseconds, "no such time was noted");

const figures = ({ value }) =>
  value && [
    table(
      "Stages",
      COLUMNS,
      value.data.map(({ stage, events, p50, p99 }) => ({
        key: stage,
        cells: [
          [STAGES[stage][0], h("span", { class: "dim" }, `: ${STAGES[stage][1]}`)],
          took(p50),
          took(p99),
          figure(events),
        ],
      })),
    ),
    h(
      "p",
      { class: "dim note" },
      `Of the last ${counted(value.events, "event")} of ${value.minutes} minutes; a thousand at most are looked at. `,
      "Each since the stage before it, by the clocks of different machines. The event store keeps no time of its own.",
    ),
  ];
