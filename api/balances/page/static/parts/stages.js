// The pipeline as it is drawn: five stages, what passes each, and what waits before it.

import { h } from "../core/dom.js";
import { counted } from "../core/format.js";
import { BANK } from "../core/names.js";
import { serverName, unowned } from "../core/troubles.js";
import { badge, fact, figure, perSecond, seconds } from "./figures.js";

/** @param {import("../core/shapes.js").Pipeline} reading */
export function stages(reading) {
  return h(
    "ol",
    { class: "stages" },
    commands(reading),
    store(reading),
    stream(reading),
    workers(reading),
    projection(reading),
  );
}

const commands = ({ stored }) =>
  stage(
    "commands",
    BANK ? "Account service" : "Command service",
    "takes commands",
    null,
    stored.rate,
    stored.unknown,
    "events decided",
    [],
  );

const store = (reading) =>
  stage(
    "store",
    "Event store",
    "keeps every event",
    state(reading, "mongodb"),
    reading.stored.rate,
    reading.stored.unknown,
    "events stored",
    [fact("Events", figure(reading.stored.events, undefined, reading.stored.unknown))],
  );

const stream = (reading) => {
  const { forwarded, forwarder } = reading;
  return stage(
    "stream",
    "Forwarder and stream",
    "carries them in order",
    state(reading, "nats"),
    forwarded.rate,
    forwarded.unknown,
    "events forwarded",
    [
      fact("In the stream", figure(forwarded.events, undefined, forwarded.unknown)),
      ...lag(forwarded),
      fact("Leader", leader(forwarder)),
    ],
  );
};

function leader({ leader, unknown }) {
  if (leader === null && unknown === null) return badge("bad", "Nobody");
  return figure(leader, String, unknown);
}

const workers = (reading) => {
  const { workers: all, workers_unknown: why } = reading;
  const here = all.filter((each) => each.state === "here").length;
  const lost = all.filter((each) => each.state === "lost").map((each) => each.name);
  const nobodys = unowned(reading).length;
  const first = reading.projected[0];
  return stage(
    "workers",
    "Workers",
    "fold them by partition",
    state(reading, "redis"),
    first?.rate ?? null,
    first?.unknown ?? null,
    "events applied",
    [
      fact("At work", why ? figure(null, undefined, why) : figure(here)),
      lost.length > 0 && fact("Lost", badge("bad", lost.join(", "))),
      fact("Partitions", figure(reading.partitions.length)),
      nobodys > 0 && fact("Nobody's", badge("bad", counted(nobodys, "partition"))),
    ],
  );
};

const projection = (reading) =>
  h(
    "li",
    { class: "stage", "data-key": "projection" },
    head("Projection", "shows the balances", state(reading, "elasticsearch")),
    reading.projected.map((each) =>
      h(
        "div",
        { class: "kept", "data-key": each.projection },
        h("h4", null, each.projection),
        h("dl", null, lag(each), fact("Parked", parked(each))),
      ),
    ),
  );

const parked = (each) =>
  each.parked > 0
    ? h("a", { href: "#/parked" }, figure(each.parked))
    : figure(each.parked, undefined, each.unknown);

const lag = ({ lag_events: events, lag_seconds: late, unknown }) => [
  fact(
    "Waiting",
    figure(events, (number) => counted(number, "event"), unknown),
  ),
  fact("Behind by", seconds(late, unknown)),
];

function stage(key, name, does, up, rate, why, what, facts) {
  return h(
    "li",
    { class: "stage", "data-key": key, "data-moving": rate > 0 },
    head(name, does, up),
    h("p", { class: "rate" }, perSecond(rate, why), h("span", { class: "dim" }, ` ${what}`)),
    h("div", { class: "trend", "data-trend": key, "data-own": true, "aria-hidden": "true" }),
    h("dl", null, facts),
  );
}

const head = (name, does, up) => h("header", null, h("h3", null, name), h("p", { class: "dim" }, does), up);

function state(reading, name) {
  const server = reading.servers.find((each) => each.name === name);
  if (!server) return null;
  const [tone, word] = server.up ? ["good", "up"] : ["bad", "down"];
  return h("p", { class: "server" }, h("span", { class: "dim" }, serverName(name)), " ", badge(tone, word));
}
