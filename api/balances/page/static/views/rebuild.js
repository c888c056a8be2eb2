// Rebuilds: the one that runs with a bar for each partition, how to start one, and the last ones.

import { get } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
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
  const resource = new Resource(
    (stop) => get("/rebuilds", { signal: stop }),
    () => draw(),
    signal,
  );
  const operator = may(who(), "operate");
  const again = () => resource.refresh();
  // The first reading tells which there are.
  const projections = () => live.reading?.projected.map((each) => each.projection) ?? [];

  function draw() {
    const [now, over] = split(resource.value?.data ?? []);
    const old = soundness(resource);
    render(
      [
        condition(resource),
        !resource.waiting && [
          h(
            "div",
            { class: old },
            now.map((each) => running(each, operator, again)),
          ),
          operator ? starter(projections(), again) : h("p", { class: "box" }, refused(who())),
          section("last", "The last ones", resource.value && h("div", { class: old }, past(over))),
        ],
      ],
      place,
    );
  }

  function update() {
    const every = resource.value?.data.some(isRunning) ? WHILE_ONE_RUNS_MS : ELSE_MS;
    if (live.state !== "paused") resource.keep(every);
    draw();
  }

  again();
  live.follow(update, signal);
}

const split = (all) => [all.filter(isRunning), all.filter((each) => !isRunning(each))];

const isRunning = (each) => each.state === "running";
