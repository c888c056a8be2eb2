// Whether an account's document has all that the event store has, and if not, why.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { counted } from "../core/format.js";
import { fullTime } from "./figures.js";

const MOST = 100;
/** An event that is stored now is in the document some milliseconds later: who is behind twice, is. */
const SECOND_LOOK_MS = 1_500;

/**
 * @param {string} id of the account
 * @param {boolean} observer whether parked accounts may be looked at
 * @param {() => void} changed called after every look
 */
export function behind(id, observer, changed, signal) {
  const base = `/${encodeURIComponent(id)}`;
  let since = null;
  let found = null;

  async function look({ version }) {
    const [later, list] = await Promise.allSettled([
      get(path(`${base}/events`, { after: version, limit: MOST }), { signal }),
      observer ? get("/parked", { signal }) : Promise.reject(),
    ]);
    if (signal.aborted) return;
    const parked = list.value?.data.find((each) => each.account_id === id);
    since = later.value?.data.length ? (since ?? performance.now()) : null;
    const late = since !== null && performance.now() - since > SECOND_LOOK_MS;
    found = [
      parked && parkedBox(parked, later.value),
      later.reason?.status && unknownBox(later.reason),
      late && !parked && behindBox(later.value, version),
    ];
    changed();
  }

  return { look, shown: () => found };
}

const many = ({ data, has_more: more }, what = "event") =>
  `${more ? "more than " : ""}${counted(data.length, what)}`;

const parkedBox = ({ version, reason, since }, later) =>
  h(
    "div",
    { class: "box bad", key: "parked" },
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
    { class: "box warn", key: "unknown" },
    h("strong", null, "Whether the event store has more than this is unknown. "),
    `${title}: ${detail}`,
  );

const behindBox = (later, version) =>
  h(
    "p",
    { class: "box warn", key: "behind" },
    h("strong", null, `This is behind: version ${version}. `),
    `The event store has ${many(later, "later event")}.`,
  );
