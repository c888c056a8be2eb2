// One step of an account's fold: the state before the event, the event, and the state after it, side by side.

import { h } from "../core/dom.js";
import { fields, folded } from "../core/steps.js";
import { fullTime } from "./figures.js";
import { kindName } from "./kinds.js";
import { eventLink, traceLink } from "./links.js";
import { code, words } from "./words.js";

/** The state before the event, the event, and the state after it. @param {Step} step */
export const sides = (step) =>
  h(
    "div",
    { class: "sides" },
    side("Before", step, "before"),
    h(
      "section",
      { class: "card event", "aria-label": "The event" },
      h("h3", null, kindName(step.event.kind)),
      h("p", { class: "fold" }, words(folded(step))),
      h("p", { class: "dim" }, fullTime(step.event.created_at), " UTC"),
      h("p", null, ways(step.event)),
      h(
        "details",
        { key: "json" },
        h("summary", null, "The event as it is stored"),
        h("pre", { tabindex: 0 }, lines(step.event)),
      ),
    ),
    side("After", step, "after"),
  );

const ways = ({ account_id: account, version, correlation_id: command }) => [
  eventLink(account, version, "This event between its neighbours"),
  command && [" · ", traceLink(command, account, "Trace its command")],
];

const side = (name, step, which) =>
  h(
    "section",
    { class: "card", "aria-label": `${name} the event` },
    h("h3", null, name),
    step[which] === null
      ? h("p", { class: "dim" }, words(absent(step, which)))
      : h(
          "dl",
          { class: "state" },
          fields(step).map((field) =>
            h(
              "div",
              { class: field.changed && which === "after" ? "changed" : null, key: field.name },
              h("dt", null, field.name),
              h(
                "dd",
                null,
                words(field[which]),
                field.changed && which === "after" && h("span", { class: "heard" }, " (changed)"),
              ),
            ),
          ),
        ),
  );

const absent = ({ version, unreadable }, which) =>
  which === "before" && version === 1 ? "There was no account." : unreadable;

/** JSON, line by line: within a line an end of line would be a control. */
const lines = (event) =>
  JSON.stringify(event, null, 1)
    .split("\n")
    .flatMap((line) => [code(line), "\n"]);
