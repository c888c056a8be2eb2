// Parked accounts: why each waits, in which projections, the event that can't be applied, and how it goes on.

import { get, path } from "../core/api.js";
import { h, heard, render } from "../core/dom.js";
import { counted } from "../core/format.js";
import { BANK, THING } from "../core/names.js";
import { Resource } from "../core/resource.js";
import { may, refused } from "../core/roles.js";
import { badge, fact, figure, fullTime, unknown } from "../parts/figures.js";
import { json } from "../parts/json.js";
import { accountLink, eventLink, traceLink } from "../parts/links.js";
import { condition, readAt, soundness } from "../parts/problems.js";
import { drop, retry } from "../parts/unpark.js";

export const title = `Parked ${THING}s`;

const EVERY_MS = 3_000;
const DETAILS_MS = 15_000;
/** Of so many, what waits is asked for at once; of others when they are unfolded. */
const LOOKED_INTO = 20;
const SLOTS = 1024;

const LEAD = `One of their events can't be applied. Their later events wait in the event store, in order; every other ${THING} goes on. Remove the cause first: start workers of a release that knows the event; repair what Elasticsearch names, where it refused the document; restore from a backup an event that somebody has changed or written by hand. Then retry. While the command side can't read the event either, commands of the ${THING} are refused.`;

/**
 * An account that is parked: `entries` are those of the projections that can't go on with it, `key` is
 * another one with each attempt.
 * @typedef {{id: string, key: string, entries: (import("../core/shapes.js").Parked & {projection: string})[]}} Account
 */

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, who }) {
  const operator = may(who(), "operate");
  const behind = new Map();
  const resource = new Resource(
    (stop) => read(names(live), stop),
    () => draw(),
    signal,
  );
  const again = () => resource.refresh();

  /** Read what is known of an account besides, unless that was read just now. */
  function look(account) {
    const known = behind.get(account.key) ?? new Resource((stop) => details(account, stop), draw, signal);
    behind.set(account.key, known);
    known.keep(DETAILS_MS);
  }

  function draw() {
    const accounts = resource.value ?? [];
    accounts.slice(0, LOOKED_INTO).forEach(look);
    const keys = new Set(accounts.map((each) => each.key));
    for (const key of behind.keys()) if (!keys.has(key)) behind.delete(key);
    render(
      [
        h("p", { class: "lead" }, LEAD),
        !operator && h("p", { class: "box" }, refused(who())),
        condition(resource),
        operator && accounts.length > 1 && retryAll(accounts, again, signal),
        h(
          "div",
          { class: soundness(resource) },
          resource.value &&
            (accounts.length
              ? h(
                  "ul",
                  { class: "cards" },
                  accounts.map((each) =>
                    card(each, {
                      acts: operator && { again, signal },
                      found: behind.get(each.key),
                      look,
                      reading: live.reading,
                    }),
                  ),
                )
              : h("p", { class: "empty" }, `No ${THING} is parked.`)),
          readAt(resource),
        ),
      ],
      place,
    );
  }

  // The first reading tells which projections there are.
  const update = () =>
    live.reading && (resource.waiting || live.state !== "paused") && resource.keep(EVERY_MS);
  draw();
  live.follow(update, signal);
}

const names = (live) => live.reading.projected.map((each) => each.projection);

/** @returns {Promise<Account[]>} those parked longest first */
async function read(projections, signal) {
  const lists = await Promise.all(
    projections.map(async (projection) => {
      const { data } = await get(path("/parked", { projection }), { signal });
      return data.map((each) => ({ ...each, projection }));
    }),
  );
  const entries = lists.flat();
  const bySince = entries.toSorted((one, other) => one.since.localeCompare(other.since));
  const ids = [...new Set(bySince.map((each) => each.account_id))];
  return ids.map((id) => {
    const own = entries.filter((each) => each.account_id === id);
    return { id, key: `${id} ${own.map((each) => [each.version, each.attempts])}`, entries: own };
  });
}

/** The event, how many wait from it on, and whose account it is; null where that can't be told. */
async function details({ id, entries: [first] }, signal) {
  const asked = (place) => get(place, { signal }).catch(() => null);
  const [event, entry, document] = await Promise.all([
    asked(`/events/${encodeURIComponent(id)}/${first.version}`),
    asked(path(`/parked/${encodeURIComponent(id)}`, { projection: first.projection })),
    BANK ? asked(`/${encodeURIComponent(id)}`) : null,
  ]);
  return { event: event?.event ?? null, waiting: entry?.waiting ?? null, owner: document?.owner ?? null };
}

const retryAll = (accounts, again, signal) =>
  h(
    "p",
    null,
    h(
      "button",
      {
        type: "button",
        class: "main",
        onclick: () =>
          retry(
            accounts.flatMap((each) => each.entries),
            again,
            signal,
          ),
      },
      `Retry all ${accounts.length}`,
    ),
  );

const card = (account, { acts, found, look, reading }) =>
  h(
    "li",
    { class: "card", key: account.id },
    h("div", { class: "split" }, accountLink(account.id), acts && buttons(account, acts)),
    account.entries.map((each) =>
      h(
        "div",
        { key: each.projection },
        h("p", { class: "cause" }, badge("warn", each.projection), " ", each.reason),
        h(
          "p",
          { class: "dim" },
          `tried ${counted(each.attempts, "time")}, since `,
          fullTime(each.since),
          " UTC",
          each.retry && "; another try is asked for",
        ),
      ),
    ),
    facts(account, found?.value, reading),
    event(account, found, look),
  );

/** What is still asked for has its place already: nothing may jump when it comes. */
function facts({ id, entries: [first] }, found, { partitions }) {
  const soon = (shown) => (found ? shown(found) : "…");
  return h(
    "dl",
    { class: "facts" },
    fact("Event", eventLink(id, first.version, first.kind)),
    fact("Version", figure(first.version)),
    fact(
      "Waiting",
      soon(({ waiting }) => figure(waiting, (number) => `${counted(number, "event")}, with this one`)),
    ),
    BANK &&
      fact(
        "Owner",
        soon(({ owner }) => owner ?? unknown("no document of it can be read")),
      ),
    fact(
      "A retry is by",
      soon(({ event }) => retriedBy(event, partitions)),
    ),
    fact(
      "Command",
      soon(({ event }) => (event?.correlation_id ? traceLink(event.correlation_id, id, "Trace it") : unknown(null))),
    ),
  );
}

function retriedBy(event, partitions) {
  if (!Number.isInteger(event?.slot)) return unknown("its event can't be read");
  const partition = Math.floor((event.slot * partitions.length) / SLOTS);
  return `${partitions[partition]?.owner ?? "no worker now"}, partition ${partition}`;
}

const event = (account, found, look) =>
  h(
    "details",
    { ontoggle: ({ target }) => target.open && look(account) },
    h("summary", null, "The event as it is stored", heard(` of ${account.id}`)),
    found?.value?.event
      ? json(`The event of ${account.id}`, found.value.event)
      : h("p", { class: "dim" }, found?.waiting ? "Reading…" : "It can't be read."),
  );

const buttons = ({ id, entries }, { again, signal }) =>
  h(
    "div",
    { class: "buttons" },
    h(
      "button",
      {
        type: "button",
        "aria-disabled": entries.every((each) => each.retry) ? "true" : null,
        onclick: () => entries.every((each) => each.retry) || retry(entries, again, signal),
      },
      entries.every((each) => each.retry) ? "Retrying…" : "Retry",
      heard(` ${id}`),
    ),
    h(
      "button",
      { type: "button", class: "harm", onclick: () => drop(id, entries, again) },
      "Drop…",
      heard(` ${id}`),
    ),
  );
