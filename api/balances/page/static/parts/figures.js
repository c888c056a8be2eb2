// Figures on the page. One that is not known says so, and why; it is never a number.

import { h } from "../core/dom.js";
import { explained } from "./terms.js";
import { clock, isExact, isMoment, moment, rate, span, whole } from "../core/format.js";

/** `format` of the value, or that it is unknown; `why` is told to who points at it or hears it. */
export function figure(value, format = whole, why = null) {
  if (value === null || value === undefined) return unknown(why);
  return h("span", { class: "figure" }, format(value));
}

export const unknown = (why) =>
  h("span", { class: "unknown", title: why }, "unknown", why && h("span", { class: "heard" }, `: ${why}`));

export const perSecond = (value, why) =>
  withUnit(value, rate, "/s", why ?? "it has not been measured for long enough");

export const seconds = (value, why) => figure(value, span, why);

const withUnit = (value, format, unit, why) =>
  value === null || value === undefined
    ? unknown(why)
    : h("span", { class: "figure" }, format(value), h("span", { class: "unit" }, unit));

/** Minor units, exact or not at all. */
export function money(value, format = whole) {
  if (value === null || value === undefined) return unknown(null);
  if (!isExact(value)) return unknown(`${value} is no whole number that can be shown exactly`);
  return h("span", { class: `figure money${value < 0 ? " minus" : ""}` }, format(value));
}

/** A moment as the time of day, the whole of it when pointed at. */
export const time = (when) => timed(when, clock);

/** A moment with its day. */
export const fullTime = (when) => timed(when, moment);

function timed(when, format) {
  if (!isMoment(when)) return unknown("it is no time");
  return h("time", { datetime: new Date(when).toISOString(), title: `${moment(when)} UTC` }, format(when));
}

/** A word about a state, in its colour; the word alone says it all. */
export const badge = (tone, word) => h("span", { class: `badge ${tone}` }, word);

/** Name and value, in a `dl`. */
export const fact = (name, ...value) =>
  h("div", { class: "fact", key: name }, h("dt", null, explained(name)), h("dd", null, value));
