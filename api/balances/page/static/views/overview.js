// The bank at a glance: the way from a command to the projection, the servers, the last hour.

import { h } from "../core/dom.js";
import { patch } from "../core/patch.js";
import { activity } from "../parts/activity.js";
import { servers } from "../parts/servers.js";
import { stages } from "../parts/stages.js";
import { trends } from "../parts/trends.js";

export const title = "Overview";

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { live, signal }) {
  const [way, those, hour] = [h("div"), h("div"), h("div")];
  place.append(
    h(
      "section",
      { "aria-labelledby": "way" },
      h("h2", { id: "way" }, "From the command to the projection"),
      way,
    ),
    h("section", { "aria-labelledby": "servers" }, h("h2", { id: "servers" }, "Servers"), those),
    h("section", { "aria-labelledby": "hour" }, h("h2", { id: "hour" }, "The last hour"), hour),
  );
  activity(hour, signal);
  const trend = trends(way, live.recent, signal);
  live.follow(() => {
    if (!live.reading) return;
    patch(way, stages(live.reading));
    trend();
    patch(those, servers(live.reading));
  }, signal);
}
