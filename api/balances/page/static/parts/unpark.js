// How a parked account goes on: retried, with what came of it; or dropped from the list, if one is sure.

import { get, path } from "../core/api.js";
import { THING } from "../core/names.js";
import { confirm } from "./confirm.js";
import { doing, say } from "./notices.js";

const PATIENCE_MS = 30_000;
const EVERY_MS = 500;

const place = (projection, account, act = "") =>
  path(`/parked/${encodeURIComponent(account)}${act}`, { projection });

/** Ask the partition's owner to try again, and say how it went. */
export async function retry(projection, parked, again, signal) {
  const id = parked.account_id;
  const asked = await doing(`${id} was not retried`, () =>
    get(place(projection, id, "/retry"), { method: "POST" }),
  );
  if (!asked) return;
  again();
  const outcome = await doing(`The outcome of the retry of ${id} is unknown`, () =>
    outcomeOf(projection, parked, signal),
  );
  if (outcome) say(...outcome);
  again();
}

/** What to say: it is off the list, or parked again, or no worker has tried in time. */
async function outcomeOf(projection, { account_id: id, attempts }, signal) {
  const until = Date.now() + PATIENCE_MS;
  while (Date.now() < until) {
    const { data } = await get(path("/parked", { projection }), { signal });
    const now = data.find((each) => each.account_id === id);
    if (!now)
      return ["good", `${id} is applied.`, "It was replayed from the event store, and is off the list."];
    if (!now.retry && now.attempts > attempts) return ["bad", `${id} is parked again.`, now.reason];
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  return [
    "warn",
    `${id} has not been retried yet.`,
    "The request stays: the worker that has its partition will retry it.",
  ];
}

/** Take it off the list as it is, if the reader is sure. */
export async function drop(projection, { account_id: id }, again) {
  const sure = await confirm({
    title: `Drop this ${THING} from the list?`,
    text: [
      `${id} is taken off the list, and nothing is repaired: its document stays behind.`,
      "Its next event parks it again while the cause is there. No event is lost.",
    ],
    yes: "Drop it",
    harm: true,
  });
  if (!sure) return;
  const done = await doing(`${id} was not dropped`, () =>
    get(place(projection, id), { method: "DELETE" }).then(() => true),
  );
  if (done) say("good", `${id} is off the list.`, "Its document stays as it is.");
  again();
}
