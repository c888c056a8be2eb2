// All events as they are forwarded, the newest first; in the address `#/events/ACCOUNT?version=` one of them.

import { get } from "../core/api.js";
import { h, heard, render } from "../core/dom.js";
import { EventFeed, KEPT } from "../core/feed.js";
import { counted, whole } from "../core/format.js";
import { BANK, THING } from "../core/names.js";
import { may } from "../core/roles.js";
import { address, go } from "../core/router.js";
import { figure, time } from "../parts/figures.js";
import { kindName } from "../parts/kinds.js";
import { accountLink, eventLink, traceLink } from "../parts/links.js";
import { problemBox } from "../parts/problems.js";
import { table } from "../parts/tables.js";
import { code, words } from "../parts/words.js";

export const title = "Events";

/** A pointer that has not moved for so long is no hand's. */
const AT_REST_MS = 15_000;
const SHOWN = 100;
const DEBOUNCE_MS = 250;
const NAMES = ["kind", "account", "correlation", "text"];

const COLUMNS = [
  { name: "When" },
  { name: "What" },
  { name: THING[0].toUpperCase() + THING.slice(1) },
  { name: "Version", figures: true },
  { name: "Body", minor: true },
  { name: "Command" },
];

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { signal, route, who }) {
  const filters = given(route);
  const watch = may(who(), "watch");
  let kinds = [];
  const draw = () => render([tools(filters, kinds, asked), stream(feed, filters, watch)], place);
  const feed = new EventFeed(draw, signal);
  let timer = 0;
  const list = () => place.querySelector(".live");
  // Who has scrolled to older ones reads them.
  addEventListener("scroll", () => feed.hold("scrolled", list()?.getBoundingClientRect().top < 0), { signal, passive: true });

  // What is typed is kept at once, for every drawing shows it, and asked for when it is whole.
  function asked(name, value) {
    filters[name] = value;
    clearTimeout(timer);
    timer = setTimeout(begin, DEBOUNCE_MS);
  }

  function begin() {
    if (signal.aborted) return;
    const wanted = Object.fromEntries(NAMES.map((name) => [name, filters[name].trim()]));
    // The address tells what is shown, and Back leaves the list, not the last letter.
    const where = address("events", null, wanted);
    if (where === location.hash) feed.begin(wanted);
    else go(where, { instead: true });
  }

  feed.begin(given(route));
  get("/schemas", { signal }).then(
    ({ data }) => {
      kinds = [...new Set(data.map((each) => each.kind))];
      draw();
    },
    () => {}, // then any kind is shown, and none can be chosen
  );
  return (turned) => {
    const wanted = given(turned);
    for (const name of NAMES) if (filters[name].trim() !== wanted[name]) filters[name] = wanted[name];
    feed.begin(wanted);
  };
}

const given = ({ query }) => Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));

function tools(filters, kinds, asked) {
  const field = (name, words) =>
    h(
      "p",
      { class: "field grow" },
      h("label", { for: `event-${name}` }, words),
      h("input", {
        id: `event-${name}`,
        type: "search",
        value: filters[name],
        autocomplete: "off",
        spellcheck: false,
        oninput: (event) => asked(name, event.target.value),
      }),
    );
  return h(
    "form",
    { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
    h(
      "p",
      { class: "field" },
      h("label", { for: "event-kind" }, "Kind"),
      h(
        "select",
        { id: "event-kind", onchange: (event) => asked("kind", event.target.value) },
        h("option", { value: "" }, "All"),
        [...new Set([filters.kind, ...kinds])].filter(Boolean).map((each) =>
          h("option", { value: each, key: each, selected: each === filters.kind }, BANK ? kindName(each) : each),
        ),
      ),
    ),
    field("account", `Id of the ${THING}`),
    field("correlation", "Correlation id"),
    field("text", "Text"),
  );
}

function stream(feed, filters, watch) {
  const found = feed.events;
  return h(
    "div",
    { class: "stack" },
    feed.problem && problemBox(feed.problem, () => feed.begin()),
    h(
      "div",
      { class: "split" },
      h("p", { class: "dim told" }, told(feed, found)),
      h(
        "button",
        { type: "button", onclick: () => feed.pause(!feed.paused) },
        feed.paused ? "Go on with new events" : "Stop here",
      ),
    ),
    h(
      "div",
      { class: "live", ...holders(feed) },
      table(
        "Events",
        COLUMNS,
        found.slice(0, SHOWN).map((each, n) => row(each, n, watch)),
        feed.waiting ? "Reading…" : none(filters),
      ),
    ),
  );
}

/** What is under the pointer, unless that was left lying there, or has the focus from the keyboard, stays what it is. */
const holders = (feed) => ({
  onpointermove: () => {
    feed.hold("pointer", true);
    feed.hold("pointer", false, AT_REST_MS);
  },
  onpointerleave: () => feed.hold("pointer", false),
  onfocusin: ({ target }) => target.matches(":focus-visible") && feed.hold("focus", true),
  onfocusout: () => feed.hold("focus", false),
});

function told(feed, found) {
  if (feed.waiting) return "Reading…";
  if (feed.still) {
    const why = feed.paused ? "Stopped" : "Held while you are in the list";
    return feed.more ? `${why}; ${counted(feed.more, "event")} came since.` : `${why}.`;
  }
  const kept = found.length < KEPT ? "" : `, of which the last ${KEPT} are kept`;
  const shown = found.length > SHOWN ? `; the newest ${SHOWN} are shown` : "";
  return `${whole(feed.came)} came${kept}${shown}.`;
}

const none = (filters) =>
  NAMES.some((name) => filters[name])
    ? "None of the last events fits. What comes and fits will be here."
    : "No event came yet.";

/** A row is of its place in the list: what comes changes what it says, and moves nothing. */
const row = (each, place, watch) => ({
  key: place,
  cells: [
    time(each.time),
    eventLink(each.subject, each.version, BANK ? kindName(each.type) : each.type),
    accountLink(each.subject),
    figure(each.version),
    code(JSON.stringify(each.data.body), "body"),
    each.correlationid && watch
      ? traceLink(each.correlationid, each.subject, ["Trace", heard([" ", words(each.correlationid)])])
      : code(each.correlationid ?? ""),
  ],
});
