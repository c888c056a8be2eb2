// One event as it is stored, between those of its account before and after it.

import { get } from "../core/api.js";
import { h, render, section } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { may } from "../core/roles.js";
import { fact, figure, fullTime } from "../parts/figures.js";
import { json } from "../parts/json.js";
import { kindName } from "../parts/kinds.js";
import { accountLink, eventLink, traceLink } from "../parts/links.js";
import { condition, soundness } from "../parts/problems.js";

export const title = "Event";

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { signal, route, who }) {
  const version = () => encodeURIComponent(route.query.get("version") ?? "1");
  const resource = new Resource(
    (stop) => get(`/events/${encodeURIComponent(route.id)}/${version()}`, { signal: stop }),
    () => draw(),
    signal,
  );
  const draw = () =>
    render(
      [
        h("p", { class: "crumbs" }, h("a", { href: "#/events" }, "All events")),
        condition(resource),
        h(
          "div",
          { class: soundness(resource) },
          resource.value && [
            facts(resource.value.event, may(who(), "watch")),
            section("this", "As it is stored", json("This event", resource.value.event)),
            beside("before", "Before it", resource.value.before, "It is the first event."),
            beside("after", "After it", resource.value.after, "It is the last event."),
          ],
        ),
      ],
      place,
    );
  draw();
  resource.refresh();
  return (turned) => {
    route = turned;
    resource.refresh();
  };
}

const facts = (event, watch) =>
  h(
    "dl",
    { class: "facts" },
    fact("Kind", kindName(event.kind)),
    fact("Of", accountLink(event.account_id)),
    fact("Version", figure(event.version)),
    fact("When", fullTime(event.created_at), " UTC"),
    event.correlation_id &&
      watch &&
      fact("Command", traceLink(event.correlation_id, event.account_id, "Trace it")),
  );

const beside = (id, name, event, none) =>
  section(
    id,
    name,
    event
      ? [
          h(
            "p",
            null,
            eventLink(event.account_id, event.version, `Version ${event.version}: ${kindName(event.kind)}`),
          ),
          json(`Event of version ${event.version}`, event),
        ]
      : h("p", { class: "empty" }, none),
  );
