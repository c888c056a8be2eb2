// Draws an account in time: what one goes through its versions with, and the list of its events.

import { LIMIT } from "../core/choice.js";
import { h } from "../core/dom.js";
import { moment, whole } from "../core/format.js";
import { amount } from "../core/steps.js";
import { badge, fullTime, money, unknown } from "./figures.js";
import { kindName } from "./kinds.js";
import { table } from "./tables.js";

const HOUR = 3_600_000;
/** Places of the slider that goes over times. */
const MOMENTS = 1000;

const COLUMNS = [
  { name: "Version" },
  { name: "What happened" },
  { name: "Change", figures: true },
  { name: "Balance after it", figures: true },
  { name: "When" },
];

/**
 * @typedef {import("../core/choice.js").Choice} Choice
 * @typedef {import("../core/steps.js").Step} Step
 * @typedef {{look: (version: number) => void, lookAt: (time: number) => void, play: () => void,
 *   turn: () => void, begin: (version: number) => void}} Actions
 */

/** @param {Choice} choice @param {boolean} playing @param {Actions} actions */
export function controls(choice, playing, { look, lookAt, play, turn }) {
  const { version, newest, opened, byTime } = choice;
  const young = !(opened < Date.now() - HOUR);
  const step = (name, to, off) => button(name, () => look(to), off);
  return h(
    "div",
    { class: "card time", role: "group", "aria-label": "Which version is shown" },
    h("p", { class: "field" }, byTime ? timeSlider(choice, lookAt) : versionSlider(choice, look)),
    h(
      "div",
      { class: "buttons start" },
      step("First", 1, version === 1),
      step("Before", version - 1, version === 1),
      step("After", version + 1, version === newest),
      step("Now", newest, version === newest),
      button(playing ? "Stop" : "Play", play, newest < 2),
      button("An hour ago", () => lookAt(Date.now() - HOUR), young, "young"),
      button(byTime ? "Go by version" : "Go by time", turn, Number.isNaN(opened)),
    ),
    opened > 0 && young && h("p", { id: "young", class: "dim" }, "There was no such account an hour ago."),
  );
}

/** Not `disabled`: whoever pressed it keeps the focus. `why` it is off is what has this id. */
const button = (name, onclick, off, why = null) =>
  h(
    "button",
    {
      type: "button",
      "aria-disabled": off ? "true" : null,
      "aria-describedby": off ? why : null,
      onclick: off ? null : onclick,
    },
    name,
  );

/** Why one goes no further: in the words beside the buttons. */
const end = (version, newest) =>
  newest === 1 ? ", the only one" : version === newest ? ", the newest" : version === 1 ? ", the first" : "";

const versionSlider = ({ version, newest }, look) => [
  h("label", { for: "time" }, `Version ${whole(version)} of ${whole(newest)}${end(version, newest)}`),
  h("input", {
    id: "time",
    type: "range",
    min: 1,
    max: newest,
    value: version,
    oninput: ({ target }) => look(Number(target.value)),
  }),
];

function timeSlider({ from, opened }, lookAt) {
  const now = Date.now();
  const at = from.at ? Date.parse(from.at) : now;
  const place = Math.round((MOMENTS * (at - opened)) / Math.max(1, now - opened));
  const time = (n) => (n >= MOMENTS ? now : opened + ((now - opened) * n) / MOMENTS);
  return [
    h("label", { for: "time" }, `As it was at ${moment(at)} UTC`),
    h("input", {
      id: "time",
      type: "range",
      min: 0,
      max: MOMENTS,
      value: Math.min(Math.max(0, place), MOMENTS),
      "aria-valuetext": moment(at),
      oninput: ({ target }) => lookAt(time(Number(target.value))),
    }),
  ];
}

/** The events of a list. @param {Step[]} steps @param {Step} step the one that is looked at */
export const events = (steps, step, { look }) =>
  table("Events", COLUMNS, steps.map((each) => row(each, each.version === step.version, look)));

const row = (each, chosen, look) => ({
  key: `e${each.version}`,
  tone: chosen ? "chosen" : null,
  cells: [
    h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-pressed": String(chosen),
        "aria-label": `Show version ${each.version}`,
        onclick: () => look(each.version),
      },
      whole(each.version),
    ),
    [kindName(each.event.kind), each.version === each.unreadable_from && [" ", badge("bad", "can't be folded")]],
    h("span", { class: "figure" }, amount(each)),
    each.after ? money(each.after.balance) : unknown("the event, or one before it, can't be folded"),
    fullTime(each.event.created_at),
  ],
});

/** The ways to other lists, where there are any. @param {Choice} choice @param {Step[]} steps */
export function pages(choice, steps, { begin }) {
  const [newest, oldest] = [steps[0].version, steps.at(-1).version];
  if (newest === choice.newest && oldest === 1) return null;
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages of the events" },
    button("Newer", () => begin(newest + LIMIT), newest === choice.newest),
    h("span", { class: "dim" }, `Versions ${whole(newest)} to ${whole(oldest)}`),
    button("Older", () => begin(oldest - 1), oldest === 1),
  );
}
