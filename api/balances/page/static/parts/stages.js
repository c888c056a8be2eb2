// The pipeline as it is drawn: five stages, what passes each, and what waits before it.

import { h } from "../core/dom.js";
import { counted } from "../core/format.js";
import { BANK } from "../core/names.js";
import { serverName, unowned } from "../core/troubles.js";
import { Chart, colour } from "./chart.js";
import { badge, fact, figure, perSecond, seconds } from "./figures.js";

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

const commands = ({ stored }, recent) =>
  stage(
    "commands",
    recent,
    BANK ? "Account service" : "Command service",
    "takes commands",
    null,
    stored.rate,
    stored.unknown,
    "events decided",
    [],
  );

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
    ],
  );
};

function leader({ leader, unknown }) {
  if (leader === null && unknown === null) return badge("bad", "Nobody");
  return figure(leader, String, unknown);
}

const workers = (reading, recent) => {
  const { workers: all, workers_unknown: why } = reading;
  const here = all.filter((each) => each.state === "here").length;
  const lost = all.filter((each) => each.state === "lost").map((each) => each.name);
  const nobodys = unowned(reading).length;
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
      lost.length > 0 && fact("Lost", badge("bad", lost.join(", "))),
      fact("Partitions", figure(reading.partitions.length)),
      nobodys > 0 && fact("Nobody's", badge("bad", counted(nobodys, "partition"))),
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

const lag = ({ lag_events: events, lag_seconds: late, unknown }) => [
  fact(
    "Waiting",
    figure(events, (number) => counted(number, "event"), unknown),
  ),
  fact("Behind by", seconds(late, unknown)),
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
  const [tone, word] = server.up ? ["good", "up"] : ["bad", "down"];
  return h("p", { class: "server" }, h("span", { class: "dim" }, serverName(name)), " ", badge(tone, word));
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
