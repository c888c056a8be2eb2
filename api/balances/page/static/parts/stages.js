// The pipeline as it is drawn: five stages, what passes each, and what waits before it.

import { h } from "../core/dom.js";
import { counted, milliseconds, titleOf, whole } from "../core/format.js";
import { ROLES, atWork, missed } from "../core/instances.js";
import { away, missedWorkers, serverName, unowned } from "../core/troubles.js";
import { Chart, colour } from "./chart.js";
import { badge, fact, figure, perSecond, seconds } from "./figures.js";
import { stateOf } from "./servers.js";

const TREND_HEIGHT = 44;

/**
 * @param {import("../core/shapes.js").Pipeline} reading
 * @param {import("../core/recent.js").Recent} recent the rates of the last minutes, for the small charts
 */
export function stages(reading, recent) {
  return h(
    "ol",
    { class: "stages" },
    commands(reading, recent),
    store(reading, recent),
    stream(reading, recent),
    workers(reading, recent),
    projection(reading),
  );
}

const commands = (reading, recent) => {
  const { rate, outcomes, p50_ms: half, p99_ms: most, unknown } = reading.commands;
  const refused = Object.entries(outcomes).filter(([outcome]) => !TAKEN.has(outcome));
  return stage("commands", recent, ROLES.accounts, "takes commands", null, rate, unknown, "commands", [
    ...processes(reading, "accounts"),
    fact("Half within", within(half, unknown)),
    fact("99 of 100 within", within(most, unknown)),
    refused.length > 0 &&
      fact(
        "Refused, last minute",
        refused.map(([outcome, number]) => h("div", { key: outcome }, `${titleOf(outcome)}: ${whole(number)}`)),
      ),
  ]);
};

const TAKEN = new Set(["accepted", "replayed"]);

/** A time in which commands were answered; where there was none, that is known. */
const within = (value, unknown) =>
  value === null && unknown === null ? h("span", { class: "dim" }, "no command") : figure(value, milliseconds, unknown);

/** How many processes of a role work, and those that do not. */
function processes(reading, role) {
  const working = atWork(reading, role);
  const silent = missed(reading, role);
  return [
    fact("Processes", figure(reading.instances_unknown ? null : working.length, whole, reading.instances_unknown)),
    silent.length > 0 && fact("No answer", badge("bad", silent.map((each) => each.name).join(", "))),
  ];
}

const store = (reading, recent) =>
  stage(
    "store",
    recent,
    "Event store",
    "keeps every event",
    state(reading, "mongodb"),
    reading.stored.rate,
    reading.stored.unknown,
    "events stored",
    [fact("Events", figure(reading.stored.events, undefined, reading.stored.unknown))],
  );

const stream = (reading, recent) => {
  const { forwarded, forwarder } = reading;
  return stage(
    "stream",
    recent,
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
      ...processes(reading, "forwarder"),
    ],
  );
};

function leader({ leader, unknown }) {
  if (leader === null && unknown === null) return badge("bad", "none");
  return figure(leader, String, unknown);
}

const workers = (reading, recent) => {
  const { workers: all, workers_unknown: why } = reading;
  const silent = missedWorkers(reading).map((each) => each.name);
  const here = all.filter((each) => each.state === "here" && !away(each, reading)).length;
  const free = unowned(reading).length;
  const first = reading.projected[0];
  return stage(
    "workers",
    recent,
    "Workers",
    "fold them by partition",
    state(reading, "redis"),
    first?.rate ?? null,
    first?.unknown ?? null,
    "events applied",
    [
      fact("At work", why ? figure(null, undefined, why) : figure(here)),
      silent.length > 0 && fact("No answer", badge("bad", silent.join(", "))),
      fact("Partitions", figure(reading.partitions.length)),
      free > 0 && fact("Without a worker", badge("bad", counted(free, "partition"))),
    ],
  );
};

const projection = (reading) =>
  h(
    "li",
    { class: "stage", key: "projection" },
    head("Projection", "shows the balances", state(reading, "elasticsearch")),
    reading.projected.map((each) =>
      h(
        "div",
        { class: "kept", key: each.projection },
        h("h4", null, each.projection),
        h("dl", null, lag(each), fact("Parked", parked(each))),
      ),
    ),
  );

const parked = (each) =>
  each.parked > 0
    ? h("a", { href: "#/parked" }, figure(each.parked))
    : figure(each.parked, undefined, each.unknown);

const lag = ({ lag_events: events, lag_seconds: late, alarm, unknown }) => [
  fact(
    "Waiting",
    figure(events, (number) => counted(number, "event"), unknown),
  ),
  fact("Behind by", h("span", { class: alarm && `late ${alarm}` }, seconds(late, unknown))),
];

function stage(key, recent, name, does, up, rate, why, what, facts) {
  return h(
    "li",
    { class: "stage", key: key, "data-moving": rate > 0 || null },
    head(name, does, up),
    h("p", { class: "rate" }, perSecond(rate, why), h("span", { class: "dim" }, ` ${what}`)),
    trend(recent, key),
    h("dl", null, facts),
  );
}

const head = (name, does, up) => h("header", null, h("h3", null, name), h("p", { class: "dim" }, does), up);

function state(reading, name) {
  const server = reading.servers.find((each) => each.name === name);
  if (!server) return null;
  return h("p", { class: "server" }, h("span", { class: "dim" }, serverName(name)), " ", stateOf(server));
}

/** The rate of the last minutes, three at most. The rate itself is told beside it. */
const trend = (recent, key) =>
  h(Chart, {
    class: "trend",
    "aria-hidden": "true",
    height: TREND_HEIGHT,
    data: recent.columns(key),
    options: () => trendOptions(recent),
  });

const trendOptions = (recent) => ({
  legend: { show: false },
  cursor: { show: false },
  padding: [4, 0, 2, 0],
  scales: {
    x: { time: true, range: () => recent.range },
    y: { range: (_, least, most) => [0, Math.max(most ?? 0, 1)] },
  },
  axes: [{ show: false }, { show: false }],
  series: [
    {},
    {
      stroke: colour("--accent"),
      width: 1.5,
      fill: colour("--accent-faint"),
      points: { show: false },
      spanGaps: false,
    },
  ],
});
