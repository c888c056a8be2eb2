// The rebuilds that are over, the last one first, with their outcome.

import { h } from "../core/dom.js";
import { span, whole } from "../core/format.js";
import { badge, figure, fullTime } from "./figures.js";
import { kindOf } from "./running.js";
import { table } from "./tables.js";

const TONES = { done: "good", cancelled: "plain", failed: "bad" };

const COLUMNS = [
  { name: "Started" },
  { name: "Projection" },
  { name: "Method" },
  { name: "Outcome" },
  { name: "Partitions", figures: true, minor: true },
  { name: "Events", figures: true },
  { name: "Took", figures: true },
  { name: "Reason", minor: true },
];

/** @param {import("../core/shapes.js").Rebuild[]} rebuilds */
export const past = (rebuilds) =>
  table("The last rebuilds", COLUMNS, rebuilds.map(row), "No rebuild is on record.");

const row = (each) => ({
  key: each.id,
  cells: [
    fullTime(each.started),
    each.projection,
    kindOf(each),
    badge(TONES[each.state] ?? "plain", each.state),
    whole(each.partitions.length),
    `${whole(each.done)} of ${whole(each.total)}`,
    each.finished
      ? span((Date.parse(each.finished) - Date.parse(each.started)) / 1000)
      : figure(null, undefined, "it tells no end"),
    h("span", { class: "dim" }, each.reason ?? ""),
  ],
});
