// The last hour as a chart: what happened in each minute, by kind. It is approximate, and says so.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { compact, minute, whole } from "../core/format.js";
import { patch } from "../core/patch.js";
import { Resource } from "../core/resource.js";
import { axis, bars, chart, colour, plotPlace } from "./chart.js";
import { GROUPS, SHOWN, stacked, summed } from "./minutes.js";
import { condition, soundness } from "./problems.js";
import { table } from "./tables.js";

const EVERY_MS = 15_000;

/** Show it in `place` until `signal` aborts. */
export function activity(place, signal) {
  let what = "events";
  const [state, plot, words] = [h("div"), plotPlace("Events in the last hour: not read yet."), h("div")];
  place.append(
    choice((chosen) => {
      what = chosen;
      render();
    }),
    state,
    plot,
    words,
  );
  const draw = chart(plot, () => options(() => columns), signal);
  let columns = [];
  const resource = new Resource(
    (stop) => get("/activity", { signal: stop }),
    () => render(),
    signal,
  );

  function render() {
    patch(state, condition(resource));
    plot.className = `plot ${soundness(resource)}`;
    if (!resource.value) return;
    const minutes = resource.value.data.slice().sort((a, b) => a.minute.localeCompare(b.minute));
    columns = GROUPS.map(({ kinds }) => minutes.map((each) => summed(each, kinds, what)));
    draw([minutes.map((each) => Date.parse(each.minute) / 1000), ...stacked(columns)]);
    plot.setAttribute("aria-label", spoken(columns, SHOWN[what]));
    patch(words, told(minutes, columns, SHOWN[what]));
  }

  resource.refresh();
  const timer = setInterval(() => document.hidden || resource.refresh(), EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
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
        h("input", { type: "radio", name: "shown", value, checked: n === 0, onchange: () => choose(value) }),
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
    { "data-key": "figures" },
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
