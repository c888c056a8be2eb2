// An account's balance over time, up to now, as a chart of its statement's entries.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { compact, counted, isExact, moment, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { TIMES, WHOLE, WHOLE_SECONDS, axis, colour, plot, stepped } from "./chart.js";
import { condition, soundness } from "./problems.js";

const PAGE = 1000;
const MOST_PAGES = 10;
/** Points that are drawn: what is more can't be told apart. */
const MOST_POINTS = 800;
/** Points that are so few that each is seen. */
const FEW = 80;
const NARROWEST_SECONDS = 10;
const EVERY_MS = 10_000;
const NOTHING = { data: null, words: "The balance over time: not read yet.", note: "" };

/** @param {string} base the account's path @param {() => void} changed called after every reading */
export function balanceChart(base, changed, signal) {
  let known = { entries: [], all: true };
  let drawing = null;
  const load = async (stop) =>
    (known = known.entries.length ? await followed(base, known, stop) : await last(base, stop));
  const resource = new Resource(load, changed, signal);

  /** It ends now, so it is drawn anew now and then, although nothing happened. */
  function current() {
    const now = Date.now();
    const same = drawing && drawing.of === resource.value && (resource.problem || now - drawing.at < EVERY_MS);
    if (!same) drawing = { ...drawn(resource.value, now / 1000), of: resource.value, at: now };
    return drawing;
  }

  function figure() {
    const { data, words, note } = resource.value ? current() : NOTHING;
    return [plot(words, data, options, soundness(resource)), h("p", { class: "dim note" }, note)];
  }

  return { resource, shown: () => [condition(resource), (resource.value || !resource.problem) && figure()] };
}

/** What the chart shows of the entries, in figures and in words. */
function drawn({ entries, all }, now) {
  const shown = entries.filter((each) => isExact(each.balance));
  const number = counted(entries.length, "entry", "entries");
  const every = entries.length === 1 ? "Its only entry" : `All ${number}`;
  const which = all ? every : `The last ${number}; what was before is not drawn`;
  const few = shown.length > MOST_POINTS ? ", every high and low of them" : "";
  return {
    data: columns(shown, now),
    words: spoken(shown),
    note: `${which}${few}. The line ends now. Times are UTC.`,
  };
}

/** The last entries in order of version, page by page, and whether they are all. */
async function last(base, signal) {
  const entries = [];
  for (let page = 0, after = ""; page < MOST_PAGES; page += 1) {
    const { data, has_more: more } = await entriesOf(base, { starting_after: after }, signal);
    entries.push(...data);
    if (!more) return { entries: entries.reverse(), all: true };
    after = data.at(-1).version;
  }
  return { entries: entries.reverse(), all: false };
}

/** With what came after them. */
async function followed(base, { entries, all }, signal) {
  const later = [];
  for (let more = true; more; ) {
    const after = (later.at(-1) ?? entries.at(-1)).version;
    const page = await entriesOf(base, { sort: "version", starting_after: after }, signal);
    later.push(...page.data);
    more = page.has_more;
  }
  return { entries: [...entries, ...later].slice(-PAGE * MOST_PAGES), all };
}

const entriesOf = (base, from, signal) =>
  get(path(`${base}/statement`, { limit: PAGE, ...from }), { signal });

/**
 * Times and balances, up to now. A time that is before the one of the entry before, by another clock, is that one.
 * Of many, some are left out, but none that is highest or lowest where it stands.
 */
export function columns(entries, now, most = MOST_POINTS) {
  if (!entries.length) return [[], []];
  let latest = -Infinity;
  const times = entries.map(({ at }) => (latest = Math.max(latest, Date.parse(at) / 1000)));
  const balances = entries.map(({ balance }) => balance);
  const kept = extremes(balances, most);
  return [
    [...kept.map((n) => times[n]), Math.max(now, latest)],
    [...kept.map((n) => balances[n]), balances.at(-1)],
  ];
}

/** The places of at most so many of the values: of each run the first, the last, the lowest and the highest. */
function extremes(values, most) {
  const run = values.length <= most ? 1 : Math.ceil((4 * values.length) / most);
  const kept = [];
  for (let from = 0; from < values.length; from += run) {
    const to = Math.min(from + run, values.length) - 1;
    let [low, high] = [from, from];
    for (let n = from; n <= to; n += 1) {
      if (values[n] < values[low]) low = n;
      if (values[n] > values[high]) high = n;
    }
    kept.push(...[...new Set([from, low, high, to])].sort((a, b) => a - b));
  }
  return kept;
}

const spoken = (entries) =>
  entries.length
    ? `The balance from ${whole(entries[0].balance)} on ${moment(entries[0].at)} to ${whole(entries.at(-1).balance)} now, since ${moment(entries.at(-1).at)}, at most ${whole(entries.reduce((most, each) => Math.max(most, each.balance), 0))}.`
    : "There are no entries.";

const options = () => ({
  scales: {
    x: { time: true, range: (_, from, to) => [Math.min(from, to - NARROWEST_SECONDS), to] },
    y: { range: (_, least, most) => [Math.min(0, least), Math.max(most * 1.08, 1)] },
  },
  axes: [
    axis({ values: TIMES, incrs: WHOLE_SECONDS, space: 72 }),
    axis({ size: 64, incrs: WHOLE, values: (_, ticks) => ticks.map(compact) }),
  ],
  series: [
    { label: "Time", value: (_, x) => (x === null ? "–" : moment(x * 1000)) },
    {
      label: "Balance",
      stroke: colour("--accent"),
      width: 2,
      fill: colour("--accent-faint"),
      paths: stepped({ align: 1 }),
      points: {
        show: ({ data }) => data[0].length <= FEW,
        size: 4,
        fill: colour("--accent"),
        // The last one is no entry: it is now.
        filter: ({ data }, _, show) => (show ? [...data[0].keys()].slice(0, -1) : null),
      },
      value: (_, y) => (y === null ? "–" : whole(y)),
    },
  ],
});
