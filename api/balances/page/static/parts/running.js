// A rebuild that runs: a bar for each partition, its rate and the time left, and how to call it off.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { span, whole } from "../core/format.js";
import { confirm } from "./confirm.js";
import { badge, fullTime, perSecond } from "./figures.js";
import { doing } from "./notices.js";

const PHASES = {
  wanted: "Workers have not begun yet.",
  building: "Workers write the next generation; readers see the live one.",
  swapped: "Readers see the new generation; the workers turn to it.",
};

const KINDS = { online: "next generation", "in-place": "in place" };

export const kindOf = (rebuild) => KINDS[rebuild.kind] ?? rebuild.kind;

/** @param {import("../core/shapes.js").Rebuild} rebuild @param {boolean} operator @param {() => void} again */
export function running(rebuild, operator, again) {
  const name = `rebuild-${rebuild.id}`;
  return h(
    "section",
    { class: "card", "aria-labelledby": name, key: name },
    h(
      "header",
      { class: "split" },
      h(
        "div",
        null,
        h("h2", { id: name }, `Rebuild of ${rebuild.projection}, ${kindOf(rebuild)}`),
        h("p", { class: "dim" }, h("code", null, rebuild.id), " since ", fullTime(rebuild.started), " UTC"),
      ),
      operator &&
        rebuild.phase !== "swapped" &&
        h(
          "button",
          { type: "button", class: "harm", onclick: () => cancel(rebuild, again) },
          "Cancel this rebuild",
        ),
    ),
    rebuild.kind === "online" && h("p", null, PHASES[rebuild.phase] ?? rebuild.phase),
    h("ul", { class: "bars" }, altogether(rebuild), rebuild.partitions.map(part)),
  );
}

const part = (each) =>
  bar(
    `part-${each.partition}`,
    `Partition ${each.partition}`,
    fraction(each),
    `${whole(each.done)} of ${whole(each.total)}`,
    // Until something is replayed its rate is not 0 but not known.
    each.state === "replaying" && each.events_per_second > 0
      ? [perSecond(each.events_per_second), left(each.seconds_left)]
      : badge(TONES[each.state] ?? "plain", each.state),
    each.owner && h("span", { class: "dim owner" }, each.owner),
  );

const TONES = { done: "good", replayed: "good", waiting: "plain" };

const isOver = ({ state }) => state === "done" || state === "replayed";

/** How much of a partition is done. Nothing to do is done once that is known. */
const fraction = (each) => (each.total ? each.done / each.total : Number(isOver(each)));

/** How much of all is done. @param {import("../core/shapes.js").Rebuild} rebuild */
export const percent = ({ partitions }) => `${Math.floor(100 * altogetherDone(partitions))} %`;

const altogetherDone = (partitions) =>
  partitions.reduce((sum, each) => sum + fraction(each), 0) / Math.max(partitions.length, 1);

/**
 * All partitions, each for the same part of the whole: how many events there are is known only when the last one
 * has begun, and a total that grows would tell nothing.
 */
function altogether(rebuild) {
  const { partitions, done, total } = rebuild;
  const rates = partitions.filter((each) => each.state === "replaying").map((each) => each.events_per_second);
  const now = rates.reduce((sum, each) => sum + each, 0);
  const begun = partitions.every((each) => each.state !== "waiting");
  return bar(
    "all",
    "All",
    altogetherDone(partitions),
    percent(rebuild),
    now > 0 && [perSecond(now), left(begun ? (total - done) / now : null)],
  );
}

const bar = (key, name, part, words, ...rest) =>
  h(
    "li",
    { key },
    h("label", { for: `bar-${key}` }, name),
    h("progress", { id: `bar-${key}`, max: 1, value: part }),
    h("span", { class: "figure" }, words),
    h("span", { class: "rest" }, rest),
  );

const left = (seconds) =>
  h("span", { class: "dim" }, seconds === null ? "time left unknown" : `${span(seconds)} left`);

async function cancel(rebuild, again) {
  const sure = await confirm({
    title: "Cancel this rebuild?",
    text:
      rebuild.kind === "online"
        ? "Workers drop what they have built. Readers go on with the live generation; nothing changes for them."
        : "What is mended stays mended; the rest stays as it is.",
    yes: "Cancel the rebuild",
    no: "Let it run",
    harm: true,
  });
  if (!sure) return;
  await doing("The rebuild was not cancelled", () =>
    get(`/rebuilds/${encodeURIComponent(rebuild.id)}`, { method: "DELETE" }),
  );
  again();
}
