// What stands above every view: whether this is live and how old it is, and what is wrong with the bank.

import { byId, h, render } from "../core/dom.js";
import { span } from "../core/format.js";
import { troubles } from "../core/troubles.js";
import { time } from "./figures.js";
import { percent } from "./running.js";

/** @param {import("../core/live.js").Live} live */
export function standing(live) {
  const stale = live.reading !== null && (live.old || live.state === "lost" || live.state === "paused");
  byId("main").classList.toggle("is-stale", stale);
  render(connection(live), byId("live"));
  render(lost(live), byId("age"));
  render(state(live), byId("troubles"));
}

function connection(live) {
  if (live.state === "off") return null;
  const paused = live.state === "paused";
  const button = h(
    "button",
    { type: "button", class: "quiet", onclick: () => (paused ? live.resume() : live.pause()) },
    paused ? "Resume" : "Pause",
  );
  return [
    h("span", { class: `pulse ${tone(live)}` }, words(live)),
    " ",
    live.reading && time(live.reading.at),
    live.reading && " UTC ",
    button,
  ];
}

const tone = (live) =>
  live.state === "paused" ? "plain" : live.state === "live" && !live.old ? "good" : "bad";

const words = (live) =>
  ({ live: live.old ? "Old" : "Live", connecting: "Connecting", lost: "Connection lost", paused: "Paused" })[
    live.state
  ];

/** That what is shown is old, in words; nothing while it is not. */
function lost(live) {
  const age = live.reading
    ? `What is shown is ${span(live.age / 1000)} old.`
    : "There is nothing to show yet.";
  if (live.state === "lost") {
    return h(
      "p",
      { class: "box bad", key: "lost" },
      h("strong", null, "Connection lost. "),
      `${live.problem.detail} `,
      h(
        "span",
        { "aria-hidden": "true" },
        `${age} ${live.retryIn ? `Trying again in ${live.retryIn} s.` : "Trying again now."} `,
      ),
      h("button", { type: "button", onclick: () => live.hurry() }, "Try now"),
    );
  }
  if (live.state === "paused")
    return h(
      "p",
      { class: "box", key: "paused" },
      h("strong", null, "Paused. "),
      h("span", { "aria-hidden": "true" }, age),
    );
  if (live.reading && live.old)
    return h(
      "p",
      { class: "box bad", key: "old" },
      h("strong", null, "No new reading comes. "),
      h("span", { "aria-hidden": "true" }, age),
    );
  return null;
}

/** What is wrong, or that nothing is: there is always a line, so that the first trouble pushes nothing away. */
function state(live) {
  const { reading } = live;
  if (!reading) return live.state !== "off" && !live.problem && line("plain", "Reading…");
  const wrong = troubles(reading).map(trouble);
  return [wrong.length ? wrong : well(live), rebuilding(reading)];
}

const well = (live) =>
  live.state === "live" && !live.old
    ? line("good", "Nothing is known to be wrong.")
    : line("plain", "Nothing was known to be wrong.");

const line = (tone, ...words) => h("li", { class: `box ${tone}`, key: words[0] }, words);

const rebuilding = ({ rebuild }) =>
  rebuild?.state === "running" &&
  h(
    "li",
    { class: "box", key: "rebuild" },
    h("strong", null, `A rebuild of ${rebuild.projection} runs: ${percent(rebuild)}.`),
    " ",
    h("a", { href: "#/rebuild" }, "See"),
  );

const trouble = ({ key, bad, what, more, href }) =>
  h(
    "li",
    { class: `box ${bad ? "bad" : "warn"}`, key: key },
    h("strong", null, what),
    " ",
    more,
    href && [" ", h("a", { href }, "See")],
  );
