// Whether an account's document has all that the event store has, and if not, why.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { counted } from "../core/format.js";
import { patch } from "../core/patch.js";
import { fullTime } from "./figures.js";

const MOST = 100;
/** An event that is stored now is in the document some milliseconds later: who is behind twice, is. */
const SECOND_LOOK_MS = 1_500;

/**
 * @param {boolean} observer whether parked accounts may be looked at
 * @returns {(document: {version: number}) => Promise<void>} looks, and says it in `place`
 */
export function behind(place, id, observer, signal) {
  const base = `/${encodeURIComponent(id)}`;
  let since = null;

  return async function check({ version }) {
    const [later, list] = await Promise.allSettled([
      get(path(`${base}/events`, { after: version, limit: MOST }), { signal }),
      observer ? get("/parked", { signal }) : Promise.reject(),
    ]);
    if (signal.aborted) return;
    const parked = list.value?.data.find((each) => each.account_id === id);
    const newer = later.value?.data.length ?? 0;
    since = newer ? (since ?? performance.now()) : null;
    const late = since !== null && performance.now() - since > SECOND_LOOK_MS;
    patch(
      place,
      parked && parkedBox(parked, later.value),
      later.reason?.status && unknownBox(later.reason),
      late && !parked && behindBox(later.value, version),
    );
  };
}

const many = ({ data, has_more: more }, what = "event") =>
  `${more ? "more than " : ""}${counted(data.length, what)}`;

const parkedBox = ({ version, reason, since }, later) =>
  h(
    "div",
    { class: "box bad", "data-key": "parked" },
    h(
      "p",
      null,
      h(
        "strong",
        null,
        `This account is parked. What is shown is as of version ${version - 1}; ${later ? many(later) : "an unknown number of events"} of it wait.`,
      ),
    ),
    h("p", null, reason),
    h(
      "p",
      { class: "dim" },
      "Since ",
      fullTime(since),
      " UTC. ",
      h("a", { href: "#/parked" }, "Retry or drop it"),
    ),
  );

const unknownBox = ({ title, detail }) =>
  h(
    "p",
    { class: "box warn", "data-key": "unknown" },
    h("strong", null, "Whether the event store has more than this is unknown. "),
    `${title}: ${detail}`,
  );

const behindBox = (later, version) =>
  h(
    "p",
    { class: "box warn", "data-key": "behind" },
    h("strong", null, `This is behind: version ${version}. `),
    `The event store has ${many(later, "later event")}.`,
  );
