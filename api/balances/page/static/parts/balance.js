// An account's balance over time, as a chart of its statement's last entries.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { compact, counted, isExact, moment, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { TIMES, axis, colour, plot, stepped } from "./chart.js";
import { condition, soundness } from "./problems.js";

const PAGE = 100;
const MOST_PAGES = 5;

/** @param {string} base the account's path @param {() => void} changed called after every reading */
export function balanceChart(base, changed, signal) {
  const resource = new Resource((stop) => last(base, stop).then(drawn), changed, signal);
  return { refresh: () => resource.refresh(), shown: () => [condition(resource), figure(resource)] };
}

function figure(resource) {
  const { data = null, words = "The balance over time: not read yet.", note = "" } = resource.value ?? {};
  return [plot(words, data, options, soundness(resource)), h("p", { class: "dim note" }, note)];
}

/** What the chart shows of the entries, in figures and in words. */
function drawn({ entries, whole: all }) {
  const shown = entries.filter((each) => isExact(each.balance));
  const number = counted(entries.length, "entry", "entries");
  const which = all ? `All ${number}.` : `The last ${number}; what was before is not drawn.`;
  return {
    data: columns(shown),
    words: spoken(shown),
    note: `${which} Each point is a balance after an entry of the statement below. Times are UTC.`,
  };
}

/** The last entries in order of version, page by page, and whether they are all. */
async function last(base, signal) {
  const entries = [];
  for (let page = 0, after = ""; page < MOST_PAGES; page += 1) {
    const { data, has_more: more } = await get(
      path(`${base}/statement`, { limit: PAGE, starting_after: after }),
      { signal },
    );
    entries.push(...data);
    if (!more) return { entries: entries.reverse(), whole: true };
    after = data.at(-1).version;
  }
  return { entries: entries.reverse(), whole: false };
}

/** Times and balances. A time that is before the one of the entry before, by another clock, is that one. */
export function columns(entries) {
  let latest = -Infinity;
  const times = entries.map(({ at }) => (latest = Math.max(latest, Date.parse(at) / 1000)));
  return [times, entries.map(({ balance }) => balance)];
}

const spoken = (entries) =>
  entries.length
    ? `The balance from ${whole(entries[0].balance)} on ${moment(entries[0].at)} to ${whole(entries.at(-1).balance)} on ${moment(entries.at(-1).at)}, at most ${whole(Math.max(...entries.map((each) => each.balance)))}.`
    : "There are no entries.";

const options = () => ({
  scales: {
    x: { time: true },
    y: { range: (_, least, most) => [Math.min(0, least), Math.max(most * 1.08, 1)] },
  },
  axes: [axis({ values: TIMES }), axis({ size: 60, values: (_, ticks) => ticks.map(compact) })],
  series: [
    { label: "Time", value: (_, x) => (x === null ? "–" : moment(x * 1000)) },
    {
      label: "Balance",
      stroke: colour("--accent"),
      width: 2,
      fill: colour("--accent-faint"),
      paths: stepped({ align: 1 }),
      points: { show: true, size: 4, fill: colour("--accent") },
      value: (_, y) => (y === null ? "–" : whole(y)),
    },
  ],
});
