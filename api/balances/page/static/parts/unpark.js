// How parked accounts go on: retried in all projections at once, with what came of it; or dropped from the
// lists, if one is sure.

import { get, path } from "../core/api.js";
import { counted } from "../core/format.js";
import { THING } from "../core/names.js";
import { confirm } from "./confirm.js";
import { doing, say } from "./notices.js";

const PATIENCE_MS = 30_000;
const EVERY_MS = 500;

/** @typedef {import("../core/shapes.js").Parked & {projection: string}} Entry */

const place = ({ projection, account_id: id }, act = "") =>
  path(`/parked/${encodeURIComponent(id)}${act}`, { projection });

/** Whatever is off the list already needs nothing. */
const ask = (where, method) =>
  get(where, { method }).catch((problem) => {
    if (!problem.is?.("not-parked")) throw problem;
  });

/** Ask the partitions' owners to try these again, and say how it went. @param {Entry[]} entries */
export async function retry(entries, again, signal) {
  const who = named(entries);
  const asked = await doing(`${who} was not retried`, async () => {
    for (const each of entries) await ask(place(each, "/retry"), "POST");
    return true;
  });
  again();
  if (!asked) return;
  const outcome = await doing(`The outcome of the retry of ${who} is unknown`, () => outcomeOf(entries, signal));
  if (outcome) say(...told(entries, outcome));
  again();
}

/** Which of them are parked again, and which no worker has tried in time; all others are applied. */
async function outcomeOf(entries, signal) {
  const until = Date.now() + PATIENCE_MS;
  const [failed, projections] = [[], new Set(entries.map((each) => each.projection))];
  let open = entries;
  while (open.length && Date.now() < until) {
    const now = new Map();
    for (const projection of projections)
      for (const each of (await get(path("/parked", { projection }), { signal })).data)
        now.set(place({ ...each, projection }), each);
    open = open.filter((each) => {
      const found = now.get(place(each));
      const again = found && !found.retry && found.attempts > each.attempts;
      if (again) failed.push(found);
      return found && !again;
    });
    if (open.length) await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  return { failed, open };
}

function told(entries, { failed, open }) {
  const reasons = [...new Set(failed.map((each) => each.reason))].join("; ");
  if (failed.length) return ["bad", `${named(failed)} ${are(failed)} parked again.`, reasons];
  if (open.length)
    return [
      "warn",
      `${named(open)} ${are(open) === "is" ? "has" : "have"} not been retried yet.`,
      "The request stays: the worker that has the partition will retry.",
    ];
  const what = entries.length > 1 ? "Replayed from the event store, in each projection" : "Replayed from the event store";
  return ["good", `${named(entries)} ${are(entries)} applied.`, `${what}, and off the list.`];
}

const idsOf = (entries) => [...new Set(entries.map((each) => each.account_id))];
const named = (entries) => {
  const ids = idsOf(entries);
  return ids.length === 1 ? ids[0] : counted(ids.length, THING);
};
const are = (entries) => (idsOf(entries).length === 1 ? "is" : "are");

/** Take an account off the lists as it is, if the reader is sure. @param {Entry[]} entries */
export async function drop(id, entries, again) {
  const sure = await confirm({
    title: `Drop this ${THING} from the list?`,
    text: [
      `${id} is taken off the list of ${entries.map((each) => each.projection).join(" and ")}, and nothing is repaired: its document stays behind.`,
      "Its next event parks it again while the cause is there. No event is lost.",
    ],
    yes: "Drop it",
    harm: true,
  });
  if (!sure) return;
  const done = await doing(`${id} was not dropped`, async () => {
    for (const each of entries) await ask(place(each), "DELETE");
    return true;
  });
  if (done) say("good", `${id} is off the list.`, "Its document stays as it is.");
  again();
}
