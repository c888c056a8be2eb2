// The last hour as a chart: what happened in each minute, by kind. It is approximate, and says so.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { compact, minute, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { axis, bars, colour, plot } from "./chart.js";
import { GROUPS, SHOWN, stacked, summed } from "./minutes.js";
import { condition, soundness } from "./problems.js";
import { table } from "./tables.js";

const EVERY_MS = 15_000;

/** @param {() => void} changed called after every reading @returns {() => unknown[]} shows it */
export function activity(changed, signal) {
  let what = "events";
  let minutes = null;
  let columns = null;
  let data = null;
  const load = async (stop) => (await get("/activity", { signal: stop })).data;
  const resource = new Resource(load, summarised, signal);

  function summarised() {
    if (resource.value) {
      minutes = resource.value.toSorted((a, b) => a.minute.localeCompare(b.minute));
      columns = GROUPS.map(({ kinds }) => minutes.map((each) => summed(each, kinds, what)));
      data = [minutes.map((each) => Date.parse(each.minute) / 1000), ...stacked(columns)];
    }
    changed();
  }

  function choose(chosen) {
    what = chosen;
    summarised();
  }

  resource.refresh();
  const timer = setInterval(() => document.hidden || resource.refresh(), EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  const name = () => SHOWN[what];
  return () => [
    choice(choose),
    condition(resource),
    plot(
      columns ? spoken(columns, name()) : "Events in the last hour: not read yet.",
      data,
      () => options(() => columns),
      soundness(resource),
    ),
    columns && told(minutes, columns, name()),
  ];
}

const choice = (choose) =>
  h(
    "fieldset",
    { class: "choice" },
    h("legend", { class: "heard" }, "What the chart shows"),
    Object.entries(SHOWN).map(([value, name], n) =>
      h(
        "label",
        null,
        h("input", {
          type: "radio",
          name: "shown",
          value,
          defaultChecked: n === 0,
          onchange: () => choose(value),
        }),
        name,
      ),
    ),
  );

const spoken = (columns, name) =>
  `${name} in the last hour: ${GROUPS.map((group, n) => `${group.name} ${whole(sum(columns[n]))}`).join(", ")}.`;

const told = (minutes, columns, name) => [
  h(
    "p",
    { class: "dim note" },
    "Approximate: workers count what they read, and after a crash may count an event twice. The last minute is not over yet. Times are UTC.",
  ),
  h(
    "details",
    { key: "figures" },
    h("summary", null, "The same as a table"),
    table(
      `${name} by minute`,
      [{ name: "Minute" }, ...GROUPS.map((group) => ({ name: group.name, figures: true }))],
      minutes
        .map((each, n) => ({
          key: each.minute,
          cells: [minute(each.minute), ...columns.map((column) => whole(column[n]))],
        }))
        .reverse(),
      "Nothing happened.",
    ),
  ),
];

const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);

// Drawn from the highest to the lowest, so that each covers what is above it in the stack.
const options = (columns) => ({
  scales: {
    x: { time: true, range: (_, from, to) => [from - 45, to + 45] },
    y: { range: (_, least, most) => [0, Math.max(most, 4) * 1.05] },
  },
  axes: [
    axis({ values: (_, ticks) => ticks.map((each) => minute(each * 1000)) }),
    axis({ size: 56, values: (_, ticks) => ticks.map(compact) }),
  ],
  series: [
    { label: "Minute", value: (_, x) => (x === null ? "–" : minute(x * 1000)) },
    ...GROUPS.map((group, n) => ({
      label: group.name,
      paths: bars({ size: [0.8, 24], gap: 1 }),
      points: { show: false },
      stroke: colour(group.colour),
      fill: colour(group.colour),
      value: (_, __, ___, index) =>
        index === null || index === undefined ? "–" : whole(columns()[n]?.[index] ?? 0),
    })),
  ],
});
