// Timeline: what happened to servers, leaders, workers, partitions, rebuilds and parked accounts; for operators
// with the audit log among it, and the settings.

import { get } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
import { span } from "../core/format.js";
import { audited, placeOf } from "../core/happened.js";
import { Resource } from "../core/resource.js";
import { may } from "../core/roles.js";
import { altered, go } from "../core/router.js";
import { badge, fullTime } from "../parts/figures.js";
import { accountLink } from "../parts/links.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { table } from "../parts/tables.js";
import { words } from "../parts/words.js";

export const title = "Timeline";

const EVERY_MS = 5_000;
const LINES = 100;
const WORDS = { good: "well", plain: "noted", warn: "warning", bad: "trouble", audit: "done by hand" };
const CHOICES = { "": "All", trouble: "Warnings and trouble", audit: "What people did" };

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, who, route }) {
  const operator = may(who(), "operate");
  const only = () => route.query.get("only") ?? "";
  const happened = new Resource(
    (stop) => read(operator, stop),
    () => draw(),
    signal,
  );
  const settings = new Resource(
    (stop) => get("/settings", { signal: stop }),
    () => draw(),
    signal,
  );
  const choose = (event) => go(altered(route, { only: event.target.value }));
  const draw = () =>
    render(
      [
        chooser(only(), operator, choose),
        condition(happened),
        h("div", { class: soundness(happened) }, happened.value && list(happened.value, only()), readAt(happened)),
        // Not before what stands above it, which would push it down.
        operator && !happened.waiting && section("settings", "Settings of this service", condition(settings), told(settings)),
      ],
      place,
    );
  draw();
  if (operator) settings.refresh();
  live.follow(() => live.state !== "paused" && happened.keep(EVERY_MS), signal);
  return (turned) => {
    route = turned;
    draw();
  };
}

/** The audit log needs NATS; without it what happened is told all the same, of NATS itself, too. */
async function read(operator, signal) {
  const lines = operator ? get(`/audit?limit=${LINES}`, { signal }).catch(() => null) : null;
  const [{ since, data }, audit] = await Promise.all([get("/timeline", { signal }), lines]);
  const happened = data.map((each) => ({ ...each, key: [each.at, each.kind, each.about, each.what].join(" ") }));
  const all = [...happened, ...(audit?.data.map(audited) ?? [])];
  return {
    since,
    unaudited: operator && audit === null,
    data: all.sort((one, other) => other.at.localeCompare(one.at)),
  };
}

const chooser = (only, operator, choose) =>
  h(
    "p",
    { class: "field" },
    h("label", { for: "only" }, "Show"),
    h(
      "select",
      { id: "only", onchange: choose },
      Object.entries(CHOICES)
        .filter(([value]) => operator || value !== "audit")
        .map(([value, name]) => h("option", { value, key: value, selected: value === only }, name)),
    ),
  );

const FITS = {
  "": () => true,
  trouble: ({ tone }) => tone === "warn" || tone === "bad",
  audit: ({ kind }) => kind === "audit",
};

function list({ since, data, unaudited }, only) {
  const found = data.filter(FITS[only] ?? FITS[""]);
  return [
    h(
      "p",
      { class: "dim" },
      since
        ? ["Lines come from all balance services; this one has looked since ", fullTime(since), " UTC."]
        : "This service has not looked yet.",
    ),
    unaudited && h("p", { class: "box warn" }, "The audit log can't be read right now: what people did is missing."),
    found.length
      ? h("ol", { class: "timeline" }, found.map(entry))
      : h("p", { class: "empty" }, "Nothing of that kind happened."),
  ];
}

const entry = ({ key, at, kind, tone, about, what, detail, seconds, accounts }) => {
  const place = placeOf({ kind, about });
  return h(
    "li",
    { key, class: tone },
    fullTime(at),
    badge(tone === "audit" ? "plain" : tone, WORDS[tone]),
    h(
      "span",
      { class: "what" },
      words(what),
      seconds !== null && seconds !== undefined && ` After ${span(seconds)}.`,
      detail && h("span", { class: "dim" }, " ", words(detail)),
      accounts?.map((each) => [" ", accountLink(each)]),
      place && [" ", h("a", { href: place.href }, place.words)],
    ),
  );
};

const COLUMNS = [{ name: "Setting" }, { name: "Value" }, { name: "Default" }, { name: "Meaning", minor: true }];

const told = ({ value }) =>
  value &&
  h(
    "details",
    null,
    h("summary", null, "All of them"),
    table(
      "Settings",
      COLUMNS,
      value.data.map(({ name, value: now, default: usual, meaning }) => ({
        key: name,
        cells: [h("code", null, name), h("code", null, now), h("code", null, usual), meaning],
      })),
    ),
  );
