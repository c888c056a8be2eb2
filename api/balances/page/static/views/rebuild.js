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
  // The first reading tells which projections there are.
  const offer = () =>
    live.reading &&
    starter(
      live.reading.projected.map((each) => each.projection),
      again,
    );

  function draw() {
    const all = resource.value?.data;
    const old = soundness(resource);
    render(
      [
        condition(resource),
        h(
          "div",
          { class: old },
          all?.filter(isRunning).map((each) => running(each, operator, again)),
        ),
        operator ? offer() : h("p", { class: "box" }, refused(who())),
        section(
          "last",
          "The last ones",
          h("div", { class: old }, all && past(all.filter((each) => !isRunning(each)))),
        ),
      ],
      place,
    );
  }

  function update() {
    const every = resource.value?.data.some(isRunning) ? WHILE_ONE_RUNS_MS : ELSE_MS;
    if (live.state !== "paused" && resource.age > every) again();
    draw();
  }

  again();
  live.follow(update, signal);
}

const isRunning = (each) => each.state === "running";
