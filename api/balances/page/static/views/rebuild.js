// Rebuilds: the one that runs with a bar for each partition, how to start one, and the last ones.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { patch } from "../core/patch.js";
import { Resource } from "../core/resource.js";
import { may, refused } from "../core/roles.js";
import { condition, soundness } from "../parts/problems.js";
import { past } from "../parts/past.js";
import { running } from "../parts/running.js";
import { starter } from "../parts/starter.js";

export const title = "Rebuild";

const WHILE_ONE_RUNS_MS = 900;
const ELSE_MS = 5_000;

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal, who }) {
  const [state, now, start, last] = [h("div"), h("div"), h("div"), h("div")];
  place.append(
    state,
    now,
    start,
    h("section", { "aria-labelledby": "last" }, h("h2", { id: "last" }, "The last ones"), last),
  );
  const resource = new Resource(
    (stop) => get("/rebuilds", { signal: stop }),
    () => render(),
    signal,
  );
  const operator = may(who(), "operate");
  const again = () => resource.refresh();
  const projections = () => live.reading.projected.map((each) => each.projection);
  // The first reading tells which projections there are.
  const offer = () => live.reading && !start.hasChildNodes() && starter(start, projections, again);
  if (operator) live.follow(offer, signal);
  else patch(start, h("p", { class: "box" }, refused(who())));

  function render() {
    patch(state, condition(resource));
    const all = resource.value?.data ?? [];
    now.className = last.className = soundness(resource);
    patch(
      now,
      all.filter(isRunning).map((each) => running(each, operator, again)),
    );
    patch(last, resource.value && past(all.filter((each) => !isRunning(each))));
  }

  const update = () => {
    const every = (resource.value?.data ?? []).some(isRunning) ? WHILE_ONE_RUNS_MS : ELSE_MS;
    if (live.state !== "paused" && resource.age > every) resource.refresh();
  };
  resource.refresh();
  live.addEventListener("change", update, { signal });
}

const isRunning = (each) => each.state === "running";
