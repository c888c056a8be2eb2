// Parked accounts: why each waits, and how it goes on. Each projection has a list of its own.

import { get, path } from "../core/api.js";
import { h, heard, render } from "../core/dom.js";
import { counted } from "../core/format.js";
import { BANK, THING } from "../core/names.js";
import { Resource } from "../core/resource.js";
import { may, refused } from "../core/roles.js";
import { address } from "../core/router.js";
import { fact, figure, fullTime } from "../parts/figures.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { drop, retry } from "../parts/unpark.js";

export const title = `Parked ${THING}s`;

const EVERY_MS = 3_000;

const LEAD = `One of their events can't be applied. Their later events wait in the event store, in order; every other ${THING} goes on.`;

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, who }) {
  const operator = may(who(), "operate");
  const resource = new Resource(
    (stop) => read(names(live), stop),
    () => draw(),
    signal,
  );
  const again = () => resource.refresh();
  const acts = operator && { again, signal };
  const draw = () =>
    render(
      [
        h("p", { class: "lead" }, LEAD),
        !operator && h("p", { class: "box" }, refused(who())),
        condition(resource),
        h(
          "div",
          { class: soundness(resource) },
          resource.value?.map((each) => list(each, acts, resource.value.length > 1)),
          readAt(resource),
        ),
      ],
      place,
    );
  // The first reading tells which projections there are.
  const update = () =>
    live.reading && (resource.waiting || live.state !== "paused") && resource.keep(EVERY_MS);
  draw();
  live.follow(update, signal);
}

const names = (live) => live.reading.projected.map((each) => each.projection);

const read = (projections, signal) =>
  Promise.all(
    projections.map(async (projection) => ({
      projection,
      parked: (await get(path("/parked", { projection }), { signal })).data,
    })),
  );

const list = ({ projection, parked }, acts, named) =>
  h(
    "section",
    { "aria-label": `Parked in ${projection}`, key: projection },
    named && h("h2", null, projection),
    parked.length
      ? h(
          "ul",
          { class: "cards" },
          parked.map((each) => card(projection, each, acts)),
        )
      : h("p", { class: "empty" }, `No ${THING} is parked.`),
  );

const card = (projection, each, acts) =>
  h(
    "li",
    { class: "card", key: each.account_id },
    h(
      "div",
      { class: "split" },
      BANK
        ? h("a", { href: address("accounts", each.account_id) }, h("code", null, each.account_id))
        : h("code", null, each.account_id),
      acts && buttons(projection, each, acts),
    ),
    h("p", { class: "cause" }, each.reason),
    h(
      "dl",
      { class: "facts" },
      fact("Event", each.kind),
      fact("Version", figure(each.version)),
      fact("Tried", counted(each.attempts, "time")),
      fact("Since", fullTime(each.since), " UTC"),
    ),
  );

const buttons = (projection, each, { again, signal }) =>
  h(
    "div",
    { class: "buttons" },
    h(
      "button",
      {
        type: "button",
        "aria-disabled": each.retry ? "true" : null,
        onclick: () => each.retry || retry(projection, each, again, signal),
      },
      each.retry ? "Retrying…" : "Retry",
      heard(` ${each.account_id}`),
    ),
    h(
      "button",
      {
        type: "button",
        class: "harm",
        onclick: () => drop(projection, each, again),
      },
      "Drop…",
      heard(` ${each.account_id}`),
    ),
  );
