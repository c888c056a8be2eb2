// An account's events as they are stored, oldest first: the truth that everything else is made from.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, fullTime } from "./figures.js";
import { pagedList } from "./pagedlist.js";
import { table } from "./tables.js";

const LIMIT = 15;

const COLUMNS = [
  { name: "Version" },
  { name: "Kind" },
  { name: "Body" },
  { name: "When" },
  { name: "Event", minor: true },
  { name: "Correlation", minor: true },
];

/** @returns {() => void} reads it anew */
export function eventList(place, base, signal) {
  const list = {
    what: "the events",
    ask: (after, stop) => get(path(`${base}/events`, { after, limit: LIMIT }), { signal: stop }),
    show: (events) => table("Events", COLUMNS, events.map(row)),
  };
  return pagedList(place, list, signal).refresh;
}

const row = (each) => ({
  key: each._id,
  cells: [
    figure(each.version),
    each.kind,
    h("code", { class: "body" }, JSON.stringify(each.body)),
    fullTime(each.created_at),
    h("code", null, each._id),
    h("code", null, each.correlation_id ?? ""),
  ],
});
