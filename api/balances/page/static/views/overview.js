// The bank at a glance: the way from a command to the projection, the servers, the last hour.

import { render, section } from "../core/dom.js";
import { activity } from "../parts/activity.js";
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
        section("way", "From the command to the projection", stages(live.reading, live.recent)),
        section("servers", "Servers", servers(live.reading)),
        section("hour", "The last hour", hour()),
      ],
      place,
    );
  live.follow(draw, signal);
}
