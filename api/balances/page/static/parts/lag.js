// How far each projection is behind: now, in the last hour, and which partition is furthest; the rates beside it.

import { get, path } from "../core/api.js";
import { Component, h, heard } from "../core/dom.js";
import { clock, compact, counted, minute, rate, span } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { AMBER } from "../core/troubles.js";
import { Chart, axis, colour } from "./chart.js";
import { badge, figure, time } from "./figures.js";
import { condition } from "./problems.js";

/** Seconds behind from which on it is very late: as the service's alarms have it. */
const RED = 30;

const HEIGHT = 150;
/** The hour is drawn whole, however much of it is known. */
const HOUR_SECONDS = 3600;
const TONES = { amber: ["warn", "late"], red: ["bad", "very late"] };

/** @param {import("../core/shapes.js").Pipeline} reading @param {import("../core/hour.js").Hour} hour */
export const lag = (reading, hour) =>
  h(
    "div",
    { class: "lags" },
    reading.projected.map((each) => projection(each, hour)),
  );

/** @param {import("../core/shapes.js").Projected} each */
const projection = (each, hour) =>
  h(
    "section",
    { class: `lag card ${each.alarm ?? ""}`, key: each.projection, "aria-label": `Lag of ${each.projection}` },
    h(
      "header",
      { class: "split" },
      h(
        "div",
        null,
        h("h3", null, each.projection),
        h(
          "p",
          { class: "behind" },
          figure(each.lag_seconds, now, each.unknown),
          each.alarm && [" ", badge(...TONES[each.alarm])],
          each.lag_events > 0 && h("span", { class: "dim" }, ` ${counted(each.lag_events, "event")} waiting`),
        ),
      ),
      h("p", { class: "furthest" }, furthest(each)),
    ),
    h(
      "div",
      { class: "pair" },
      drawn(`Seconds behind, ${spoken(hour.lag(each.projection), span)}`, hour.lag(each.projection), lagOptions),
      drawn(
        `Commands a second, ${spoken(hour.rates(each.projection), rate)}`,
        hour.rates(each.projection),
        rateOptions,
      ),
    ),
    h(Partitions, { projection: each.projection }),
  );

const now = (seconds) => (seconds > 0 ? `${span(seconds)} behind` : "up to date");

/** Which partition is furthest behind, and since when. */
function furthest({ furthest: one, unknown }) {
  if (!one) return unknown ? null : "No partition is behind.";
  if (one.lag_seconds < 1) return "No partition is a second behind.";
  const since = one.since && [", late since ", time(one.since), " UTC"];
  return [`Furthest behind: partition ${one.partition}, by ${span(one.lag_seconds)}`, since, "."];
}

/** The highest of the last hour, or since when there are points, if that is later. */
export function spoken(columns, format) {
  const known = columns?.[1].filter((each) => each !== null) ?? [];
  if (!known.length) return "nothing known of the last hour yet.";
  const [from, to] = [columns[0][0], columns[0].at(-1)];
  const isWhole = to - from >= HOUR_SECONDS - 2 * 60;
  return `at most ${format(Math.max(...known))} ${isWhole ? "in the last hour" : `since ${minute(1000 * from)} UTC`}.`;
}

const drawn = (words, data, options) =>
  h(
    "figure",
    null,
    h("figcaption", { class: "dim" }, words),
    h(Chart, { class: "course", "aria-hidden": "true", height: HEIGHT, data, options }),
  );

/** The partitions, when somebody opens them. */
class Partitions extends Component {
  #stop = new AbortController();
  #resource = new Resource(
    (signal) => get(path("/partitions/hour", { projection: this.props.projection }), { signal }),
    () => this.forceUpdate(),
    this.#stop.signal,
  );
  #timer = null;

  componentWillUnmount() {
    this.#stop.abort();
    clearInterval(this.#timer);
  }

  #toggle(open) {
    clearInterval(this.#timer);
    this.setState({ open });
    if (!open) return;
    this.#resource.refresh();
    this.#timer = setInterval(() => document.hidden || this.#resource.refresh(), 10_000);
  }

  render({ projection }, { open }) {
    const resource = this.#resource;
    return h(
      "details",
      { ontoggle: (event) => this.#toggle(event.target.open) },
      h("summary", null, "By partition", heard(` of ${projection}`)),
      open && [condition(resource), resource.value && partitionLines(resource.value)],
    );
  }
}

/** @param {{at: number[], lag_seconds: (number | null)[][]}} hour */
const partitionLines = (hour) =>
  hour.at.length
    ? h(
        "figure",
        null,
        h("figcaption", { class: "dim" }, `Seconds behind. ${worst(hour)}`),
        h(Chart, {
          class: "course",
          "aria-hidden": "true",
          height: HEIGHT + 60,
          data: columnsOf(hour),
          options: () => partitionOptions(hour.lag_seconds.length),
        }),
      )
    : h("p", { class: "dim" }, "Nothing is known of the last hour yet.");

/** For a chart: the same until the hour is read again. */
function columnsOf(hour) {
  hour.columns ??= [hour.at, ...hour.lag_seconds];
  return hour.columns;
}

/** The partition that was latest in the hour, and when. */
function worst({ at, lag_seconds: all }) {
  let found = null;
  all.forEach((column, partition) =>
    column.forEach((late, n) => late > (found?.late ?? 0) && (found = { late, partition, at: at[n] })),
  );
  return found
    ? `Partition ${found.partition} was furthest behind, by ${span(found.late)} at ${clock(found.at * 1000)} UTC.`
    : "None was behind.";
}

const range = (_, from, to) => [Math.min(from, to - HOUR_SECONDS), to];

const base = (most, values) => ({
  legend: { show: false },
  cursor: { show: false },
  scales: { x: { time: true, range }, y: { range: (_, least, top) => [0, Math.max(top ?? 0, most) * 1.1] } },
  axes: [
    axis({ size: 28, values: (_, ticks) => ticks.map((each) => minute(each * 1000)) }),
    axis({ size: 52, values: (_, ticks) => ticks.map(values) }),
  ],
});

const seconds = (each) => `${compact(each)} s`;

const lagOptions = () => ({
  ...base(AMBER, seconds),
  hooks: { draw: [thresholds] },
  series: [{}, line("--accent", "--accent-faint")],
});

const rateOptions = () => ({
  ...base(1, compact),
  legend: { show: true, live: false },
  series: [
    { label: "A second" },
    { ...line("--in"), label: "commands" },
    { ...line("--accent"), label: "events applied" },
  ],
});

const COLOURS = ["--accent", "--in", "--out", "--other", "--bad", "--warn", "--dim", "--opened"];

const partitionOptions = (number) => ({
  ...base(AMBER, seconds),
  legend: { show: true, live: false },
  hooks: { draw: [thresholds] },
  series: [
    { label: "Partition" },
    ...Array.from({ length: number }, (_, n) => ({ ...line(COLOURS[n % COLOURS.length]), label: `${n}` })),
  ],
});

const line = (stroke, fill = null) => ({
  stroke: colour(stroke),
  fill: fill && colour(fill),
  width: 1.5,
  points: { show: false },
  spanGaps: false,
});

/** Lines where a projection becomes late, as far as they are within the scale. */
function thresholds(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = 1;
  ctx.setLineDash([4, 4]);
  for (const [seconds, name] of [
    [AMBER, "--warn"],
    [RED, "--bad"],
  ]) {
    const y = plot.valToPos(seconds, "y", true);
    if (y < bbox.top) continue;
    ctx.strokeStyle = colour(name);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}
