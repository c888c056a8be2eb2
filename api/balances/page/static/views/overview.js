// The bank at a glance: how far behind it is, the way from a command to the projection, servers and processes.

import { render, section } from "../core/dom.js";
import { activity } from "../parts/activity.js";
import { lag } from "../parts/lag.js";
import { processes } from "../parts/processes.js";
import { servers } from "../parts/servers.js";
import { stages } from "../parts/stages.js";

export const title = "Overview";

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal }) {
  const hour = activity(() => draw(), signal);
  const draw = () =>
    live.reading &&
    render(
      [
        section("behind", "How far behind", lag(live.reading, live.hour)),
        section("way", "From the command to the projection", stages(live.reading, live.recent)),
        section("servers", "Servers", servers(live.reading)),
        section("processes", "Processes", processes(live.reading)),
        section("hour", "The last hour", hour()),
      ],
      place,
    );
  live.follow(draw, signal);
}
