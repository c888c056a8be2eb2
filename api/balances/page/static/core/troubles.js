// What is wrong with the bank, in sentences, from one reading. Pure.

import { clock, counted, partitionsOf, whole } from "./format.js";
import { BANK, THING } from "./names.js";

const READ = BANK ? "Balances" : "Documents";

/** What it means when a server is down. */
const MEANS = {
  mongodb: `Commands are refused. ${READ} can still be read.`,
  nats: `Nothing is carried to the workers. Commands are still taken, ${READ.toLowerCase()} fall behind.`,
  redis: "Everybody keeps what they have. Nobody new takes over a partition.",
  elasticsearch: `${READ} can't be read, and nothing is applied.`,
};

/** Names of servers as their makers write them. */
export const SERVERS = { mongodb: "MongoDB", nats: "NATS", redis: "Redis", elasticsearch: "Elasticsearch" };

export const serverName = (name) => SERVERS[name] ?? name;

/**
 * The troubles of a reading, the worst first.
 * @param {import("./shapes.js").Pipeline} reading
 * @returns {{key: string, bad: boolean, what: string, more: string, href?: string}[]}
 */
export const troubles = (reading) => [
  ...reading.servers.filter((each) => !each.up).map(down),
  ...leaderless(reading),
  ...reading.workers.filter((each) => each.state === "lost").map((each) => lost(each, reading)),
  ...nobodys(reading),
  ...parked(reading),
];

/** Partitions that nobody has, as far as that is known. */
export const unowned = (reading) =>
  reading.partitions
    .filter((each) => each.owner === null && each.owner_unknown === null)
    .map((each) => each.partition);

/** Whether a partition's owner is a worker whose registration ran out. */
export const ownerLost = (partition, reading) =>
  reading.workers.some((each) => each.name === partition.owner && each.state === "lost");

const down = ({ name, detail }) => ({
  key: `down-${name}`,
  bad: true,
  what: `${serverName(name)} is down.`,
  more: [MEANS[name], detail && `It was told: ${detail}`].filter(Boolean).join(" "),
});

function leaderless({ forwarder }) {
  if (forwarder.leader !== null || forwarder.unknown !== null) return [];
  const more = "Events are stored, and go no further until a forwarder leads.";
  return [{ key: "leader", bad: true, what: "No forwarder leads.", more }];
}

function lost(worker, reading) {
  const had = reading.partitions.filter((each) => each.owner === worker.name).map((each) => each.partition);
  const waits = unowned(reading).length > 0;
  const fate = had.length
    ? `${are(had)} still held by its leases, which run out in some seconds.`
    : waits
      ? ""
      : "Others have taken over its partitions.";
  const more = `It was seen last at ${clock(worker.seen)} UTC, and ended without a goodbye: killed, or cut off. ${fate}`;
  return {
    key: `lost-${worker.name}`,
    bad: had.length > 0 || waits,
    what: `Worker ${worker.name} is lost.`,
    more,
    href: "#/partitions",
  };
}

function nobodys(reading) {
  const free = unowned(reading);
  if (!free.length) return [];
  const who = reading.workers.some((each) => each.state === "here") ? "" : " No worker is there.";
  const what =
    free.length === reading.partitions.length ? "Nobody has any partition." : `${are(free)} nobody's.`;
  return [
    { key: "nobody", bad: true, what, more: `Their events wait in the stream.${who}`, href: "#/partitions" },
  ];
}

function parked({ projected }) {
  const some = projected.filter((each) => each.parked > 0);
  const number = Math.max(0, ...some.map((each) => each.parked));
  if (!number) return [];
  const what = `${counted(number, THING)} ${number === 1 ? "is" : "are"} parked.`;
  const more =
    some.length > 1 || some[0] !== projected[0]
      ? `${some.map((each) => `${whole(each.parked)} in ${each.projection}`).join(", ")}.`
      : "";
  return [{ key: "parked", bad: false, what, more, href: "#/parked" }];
}

const are = (numbers) => `P${partitionsOf(numbers).slice(1)} ${numbers.length === 1 ? "is" : "are"}`;
