// A rebuild that runs: a bar for each partition, its rate and the time left, and how to call it off.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { span, whole } from "../core/format.js";
import { confirm } from "./confirm.js";
import { badge, fullTime, perSecond } from "./figures.js";
import { doing, say } from "./notices.js";

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
    h("ul", { class: "bars" }, bar("all", "All", rebuild, altogether(rebuild)), rebuild.partitions.map(part)),
  );
}

const part = (each) =>
  bar(`part-${each.partition}`, `Partition ${each.partition}`, each, [
    // Until something is replayed its rate is not 0 but not known.
    each.state === "replaying" && each.events_per_second > 0
      ? [perSecond(each.events_per_second), left(each.seconds_left)]
      : badge(TONES[each.state] ?? "plain", each.state),
    each.owner && h("span", { class: "dim owner" }, each.owner),
  ]);

const TONES = { done: "good", replayed: "good", waiting: "plain" };

function bar(key, name, { done, total, state }, rest) {
  // Nothing to do is done, and a bar of 0 events would be none.
  const over = total === 0 && (state === "done" || state === "replayed");
  return h(
    "li",
    { key: key },
    h("label", { for: `bar-${key}` }, name),
    h("progress", { id: `bar-${key}`, max: Math.max(total, 1), value: over ? 1 : done }),
    h("span", { class: "figure" }, `${whole(done)} of ${whole(total)}`),
    h("span", { class: "rest" }, rest),
  );
}

/** The rate of what is replayed now, and the time left at it; neither while there is none. */
function altogether({ partitions, done, total }) {
  const now = partitions
    .filter((each) => each.state === "replaying")
    .reduce((sum, each) => sum + each.events_per_second, 0);
  return now > 0 ? [perSecond(now), left((total - done) / now)] : [];
}

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
  const answer = await doing("The rebuild was not cancelled", () =>
    get(`/rebuilds/${encodeURIComponent(rebuild.id)}`, { method: "DELETE" }),
  );
  if (answer)
    say(
      "good",
      "The rebuild is cancelled.",
      rebuild.kind === "online" ? "The live generation goes on being read." : "",
    );
  again();
}
