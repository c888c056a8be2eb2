// Partitions by owner: who has which, how far each is, and those without a worker.

import { get, path } from "../core/api.js";
import { h, render } from "../core/dom.js";
import { counted } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { altered, go } from "../core/router.js";
import { groups } from "../core/groups.js";
import { badge, figure, seconds, time } from "../parts/figures.js";
import { condition, soundness } from "../parts/problems.js";
import { table } from "../parts/tables.js";

export const title = "Partitions";

const COLUMNS = [
  { name: "Partition" },
  { name: "Behind by", figures: true },
  { name: "Waiting", figures: true },
  { name: "Parked", figures: true },
  { name: "Position", figures: true, minor: true },
  { name: "Epoch", figures: true, minor: true },
];

const EVERY_MS = 2_000;

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, route }) {
  const projection = () => route.query.get("projection") ?? first();
  // The readings have those of the first projection; those of another are asked for.
  const other = new Resource(
    (stop) => get(path("/partitions", { projection: projection() }), { signal: stop }),
    () => draw(),
    signal,
  );
  const first = () => live.reading.projected[0]?.projection;
  const own = () => projection() === first();
  const choose = (name) => go(altered(route, { projection: name }));

  function draw() {
    const names = live.reading.projected.map((each) => each.projection);
    const partitions = own() ? live.reading.partitions : other.value?.data;
    render(
      [
        chooser(names, projection(), choose),
        !own() && condition(other),
        h(
          "div",
          { class: `workers ${own() ? "" : soundness(other)}` },
          partitions && groups(live.reading, partitions).map(group),
          notKnown(live.reading),
        ),
      ],
      place,
    );
  }

  function update() {
    if (!live.reading) return;
    if (!own() && !live.old) other.keep(EVERY_MS);
    draw();
  }

  live.follow(update, signal);
  return (turned) => {
    route = turned;
    other.clear();
    update();
  };
}

const chooser = (names, chosen, choose) =>
  names.length > 1 &&
  h(
    "p",
    { class: "field" },
    h("label", { for: "projection" }, "Projection"),
    h(
      "select",
      { id: "projection", onchange: (event) => choose(event.target.value) },
      names.map((name) => h("option", { value: name, selected: name === chosen }, name)),
    ),
  );

const notKnown = ({ workers_unknown: why }) =>
  why && h("p", { class: "box warn", key: "unknown" }, h("strong", null, "Who is at work is unknown. "), why);

const TONES = {
  here: ["good", "at work"],
  left: ["plain", "ended"],
  silent: ["bad", "does not answer"],
  nobody: ["bad", "waiting"],
  unknown: ["warn", "unknown"],
};

/** @param {import("../core/groups.js").Group} group */
function group({ key, name, state, seen, partitions, words }) {
  const [tone, word] = TONES[state];
  return h(
    "section",
    { class: `worker ${state}`, "aria-labelledby": `worker-${key}`, key: key },
    h(
      "header",
      null,
      h("h2", { id: `worker-${key}` }, name),
      badge(tone, word),
      h(
        "p",
        { class: "dim" },
        partitions.length ? counted(partitions.length, "partition") : "no partition",
        seen && ["; last answer at ", time(seen), " UTC"],
      ),
    ),
    words && h("p", { class: "words" }, words),
    partitions.length > 0 &&
      table(
        `Partitions of ${name}`,
        partitions.some(why) ? [...COLUMNS, { name: "Why unknown" }] : COLUMNS,
        partitions.map(row),
      ),
  );
}

const why = (each) => [each.unknown, each.owner_unknown].filter(Boolean).join("; ");

const row = (each) => ({
  key: `p${each.partition}`,
  cells: [
    each.partition,
    seconds(each.lag_seconds, each.unknown),
    figure(each.lag_events, undefined, each.unknown),
    each.parked > 0
      ? h("a", { href: "#/parked" }, figure(each.parked))
      : figure(each.parked, undefined, each.unknown),
    figure(each.position, undefined, each.unknown),
    figure(each.epoch, undefined, each.unknown),
    ...(why(each) ? [h("span", { class: "dim" }, why(each))] : []),
  ],
});
