// An account's events as they are stored, the newest first, for an account that can't be folded.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, fullTime } from "./figures.js";
import { PagedList } from "./pagedlist.js";
import { table } from "./tables.js";
import { code } from "./words.js";

const LIMIT = 15;

const COLUMNS = [
  { name: "Version" },
  { name: "Kind" },
  { name: "Body" },
  { name: "When" },
  { name: "Event", minor: true },
  { name: "Correlation", minor: true },
];

/** @param {string} base the account's path @param {() => void} changed called after every reading */
export function eventList(base, changed, signal) {
  const ask = (after, stop) => get(path(`${base}/events`, { sort: "-version", after, limit: LIMIT }), { signal: stop });
  const list = new PagedList("the events", ask, changed, signal);
  return {
    refresh: list.refresh,
    shown: () => list.shown((events) => table("Events", COLUMNS, events.map(row))),
  };
}

const row = (each) => ({
  key: each._id,
  cells: [
    figure(each.version),
    each.kind,
    h("div", { class: "body" }, code(JSON.stringify(each.body))),
    fullTime(each.created_at),
    h("code", null, each._id),
    h("code", null, each.correlation_id ?? ""),
  ],
});
