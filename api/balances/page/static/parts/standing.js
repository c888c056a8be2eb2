// What stands above every view: whether this is live and how old it is, and what is wrong with the bank: a line that
// has its place from the beginning, and unfolds over the view, so that nothing that is read moves.

import { byId, h, heard, render } from "../core/dom.js";
import { counted, span } from "../core/format.js";
import { sign, troubles, worded } from "../core/troubles.js";
import { time } from "./figures.js";
import { percent } from "./running.js";

const WELL = "Nothing is known to be wrong.";

let open = false;
let said = { sign: null, words: "" };
let close = null;

/** @param {import("../core/live.js").Live} live */
export function standing(live) {
  const stale = live.reading !== null && (live.old || live.state === "lost" || live.state === "paused");
  byId("main").classList.toggle("is-stale", stale);
  render(connection(live), byId("live"));
  const wrong = live.reading ? troubles(live.reading) : [];
  if (!wrong.length) open = false;
  close = open ? () => ((open = false), standing(live)) : null;
  render(state(live, wrong), byId("troubles"));
  render(lost(live), byId("age"));
  if (byId("age").querySelector(".bad") && byId("troubles").contains(document.activeElement))
    byId("age").firstElementChild.focus(); // it covers what had the focus
  render(spoken(live, wrong), byId("spoken"));
}

addEventListener("hashchange", () => close?.());
addEventListener("click", ({ target }) => target.closest("#troubles") || close?.());
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !close) return;
  const within = byId("troubles").contains(document.activeElement);
  close();
  if (within) byId("fold").focus();
});

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
      { class: "box bad", key: "lost", tabindex: "-1" },
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
      { class: "box bad", key: "old", tabindex: "-1" },
      h("strong", null, "No new reading comes. "),
      h("span", { "aria-hidden": "true" }, age),
    );
  return null;
}

/** A line about what is wrong, or that nothing is, and all of it below when that is asked for. */
function state(live, wrong) {
  const { reading } = live;
  if (!reading) return live.state !== "off" && line("plain", "Reading…");
  if (!wrong.length) return well(live);
  const fold = (wanted) => {
    open = wanted;
    standing(live);
  };
  return h(
    "div",
    null,
    h(
      "button",
      {
        type: "button",
        id: "fold",
        class: `summary box ${tones(wrong[0])}`,
        "aria-expanded": String(open),
        "aria-controls": "all-troubles",
        onclick: () => fold(!open),
      },
      h("span", null, summary(wrong)),
      h("span", { class: "fold-sign", "aria-hidden": "true" }, open ? "▴" : "▾"),
    ),
    h(
      "ul",
      { id: "all-troubles", class: "boxes", hidden: !open },
      wrong.map((each) => h("li", { class: `box ${tones(each)}`, key: each.key }, trouble(each))),
      reading.rebuild?.state === "running" &&
        h("li", { class: "box", key: "rebuild" }, rebuilding(reading), " ", toRebuild()),
    ),
  );
}

const tones = ({ bad }) => (bad ? "bad" : "warn");

const summary = ([worst, ...others]) =>
  others.length
    ? [h("strong", null, `${counted(others.length + 1, "thing is", "things are")} wrong: `), worst.what]
    : [h("strong", null, worst.what), " ", worst.more];

/** What is wrong, or that all is well, for who hears it: when it is something else, and not at each new figure. */
function spoken({ state, reading }, wrong) {
  if (state === "off") return null;
  const now = wrong.map(sign).join();
  if (reading && now !== said.sign) said = { sign: now, words: wrong.map(worded).join(" ") || WELL };
  return said.words;
}

/** The link has room of its own: the words before it may be cut off. */
function well(live) {
  const { rebuild } = live.reading;
  const runs = rebuild?.state === "running";
  const more = runs && [" ", rebuilding(live.reading)];
  return live.state === "live" && !live.old
    ? line("good", [WELL, more], runs && toRebuild())
    : line("plain", ["Nothing was known to be wrong.", more], runs && toRebuild());
}

const line = (tone, words, more) =>
  h("p", { class: `summary box ${tone}`, key: tone }, h("span", null, words), more);

const rebuilding = ({ rebuild }) => h("strong", null, `A rebuild of ${rebuild.projection} runs: ${percent(rebuild)}.`);

const toRebuild = () => h("a", { href: "#/rebuild" }, "See", heard(" the rebuild"));

const trouble = ({ what, more, href, see, within = [] }) => [
  h("strong", null, what),
  " ",
  more,
  href && [" ", h("a", { href }, "See", heard(` ${see}`))],
  within.length > 0 && h("ul", null, within.map((each) => h("li", { key: each.key }, trouble(each)))),
];
