// What is wrong with the bank, in sentences, from one reading. Pure.

import { clock, counted, partitionsOf, span, whole } from "./format.js";
import { ROLES, atWork, isSilent, ofRole } from "./instances.js";
import { BANK, THING } from "./names.js";
import { address } from "./router.js";

const READ = BANK ? "Balances" : "Documents";

/** What it means when a server is down. */
const MEANS = {
  mongodb: `Commands are refused. ${READ} can still be read.`,
  nats: `Nothing is carried to the workers. Commands are still taken, ${READ.toLowerCase()} fall behind.`,
  redis: "Workers keep the partitions that they have; no other one can take them over.",
  elasticsearch: `${READ} can't be read, and nothing is applied.`,
};

/** What it means when no process of a role answers. */
const WITHOUT = {
  accounts: "Commands are not taken.",
  forwarder: "Events are stored, and go no further.",
  worker: `Events wait in the stream, and ${READ.toLowerCase()} fall behind.`,
};

/** Names of servers as their makers write them. */
export const SERVERS = { mongodb: "MongoDB", nats: "NATS", redis: "Redis", elasticsearch: "Elasticsearch" };

export const serverName = (name) => SERVERS[name] ?? name;

/**
 * The troubles of a reading, the worst first.
 * @param {import("./shapes.js").Pipeline} reading
 * @returns {{key: string, bad: boolean, what: string, more: string, href?: string}[]}
 */
export const troubles = (reading) =>
  [
    ...reading.servers.filter((each) => each.state === "down").map(down),
    ...Object.keys(WITHOUT).flatMap((role) => without(role, reading)),
    ...leaderless(reading),
    ...reading.workers.filter((each) => away(each, reading)).map((each) => silentWorker(each, reading)),
    ...ownerless(reading),
    ...late(reading),
    ...reading.servers.filter((each) => each.state === "slow").map(slow),
    ...silent(reading),
    ...notReady(reading),
    ...parked(reading),
  ].sort((one, other) => other.bad - one.bad);

/** Partitions that no worker has, as far as that is known. */
export const unowned = (reading) =>
  reading.partitions
    .filter((each) => each.owner === null && each.owner_unknown === null)
    .map((each) => each.partition);

/** Whether a worker does not answer, or let its registration run out, and has not said that it ends. */
export const away = ({ name, state }, reading) =>
  state === "lost" || (state === "here" && isSilent(reading, name));

/** What became of a worker that is away. */
export const WHY_SILENT = "It was not stopped in good order: it is frozen, was killed, or is cut off.";

const down = ({ name, detail }) => ({
  key: `down-${name}`,
  bad: true,
  what: `${serverName(name)} is down.`,
  more: [MEANS[name], detail && `${detail}.`].filter(Boolean).join(" "),
});

const slow = ({ name }) => ({
  key: `slow-${name}`,
  bad: false,
  what: `${serverName(name)} is slow.`,
  more: `It left a question unanswered; when it leaves the next one, too, it is down.`,
});

/** No process of a role is at work, as far as it is known who is. */
function without(role, reading) {
  const all = ofRole(reading, role);
  if (reading.instances_unknown || atWork(reading, role).length) return [];
  // Who leads and who has the partitions is known without asking them.
  if (!all.length && !(BANK && role === "accounts")) return [];
  const name = ROLES[role].toLowerCase();
  const stopped = all.length > 0 && all.every((each) => each.state === "ended");
  const what = all.length ? `No ${name} ${stopped ? "runs" : "answers"}.` : `No ${name} has answered yet.`;
  const last = stopped ? `The last one was stopped at ${clock(latest(all))} UTC.` : "";
  return [{ key: `without-${role}`, bad: true, what, more: `${WITHOUT[role]} ${last}`.trim() }];
}

const latest = (all) => all.map((each) => each.seen).sort().at(-1);

function leaderless(reading) {
  const { forwarder } = reading;
  if (forwarder.leader !== null || forwarder.unknown !== null || without("forwarder", reading).length) return [];
  return [{ key: "leader", bad: true, what: "No forwarder leads.", more: WITHOUT.forwarder }];
}

function silentWorker(worker, reading) {
  const had = reading.partitions.filter((each) => each.owner === worker.name).map((each) => each.partition);
  const waits = unowned(reading).length > 0;
  const fate = had.length
    ? `It still has ${partitionsOf(had)}, until its leases run out in some seconds.`
    : waits
      ? ""
      : "Others have taken over its partitions.";
  return {
    key: `silent-${worker.name}`,
    bad: had.length > 0 || waits,
    what: `Worker ${worker.name} does not answer.`,
    more: `${WHY_SILENT} It was last seen at ${clock(worker.seen)} UTC. ${fate}`.trim(),
    href: "#/partitions",
  };
}

/** Services and forwarders that do not answer while others of their role do. */
const silent = (reading) =>
  reading.instances
    .filter(({ role, state }) => state === "silent" && role !== "worker" && atWork(reading, role).length)
    .map(({ role, name, seen }) => ({
      key: `silent-${name}`,
      bad: false,
      what: `${ROLES[role]} ${name} does not answer.`,
      more: `${WHY_SILENT} Its last answer came at ${clock(seen)} UTC. Others of its role answer.`,
    }));

const notReady = (reading) =>
  reading.instances
    .filter(({ state, detail }) => state === "waiting" && detail && !reading.servers.some(isDown))
    .map(({ role, name, detail }) => ({
      key: `waiting-${role}-${name}`,
      bad: false,
      what: `${ROLES[role]} ${name} is not ready.`,
      more: detail,
    }));

/** What waits for a server that is down says no more than that. */
const isDown = ({ state }) => state !== "up";

function ownerless(reading) {
  const free = unowned(reading);
  if (!free.length) return [];
  const who = reading.workers.some((each) => each.state === "here") ? "" : " No worker is registered.";
  const what =
    free.length === reading.partitions.length
      ? "No partition has a worker."
      : `${upper(partitionsOf(free))} ${free.length === 1 ? "has" : "have"} no worker.`;
  return [
    { key: "nobody", bad: true, what, more: `Their events wait in the stream.${who}`, href: "#/partitions" },
  ];
}

/** Stages that are late, and since when. */
function late({ forwarded, projected }) {
  const found = projected.filter((each) => each.alarm).map(lateProjection);
  if (!forwarded.alarm) return found;
  const more = `The oldest event that is stored and not in the stream is ${span(forwarded.lag_seconds)} old.`;
  return [{ key: "late-stream", bad: forwarded.alarm === "red", what: "The stream is late.", more }, ...found];
}

function lateProjection({ projection, alarm, lag_seconds: seconds, furthest }) {
  const since = furthest?.since ? ` since ${clock(furthest.since)} UTC` : "";
  return {
    key: `late-${projection}`,
    bad: alarm === "red",
    what: `${projection} is ${span(seconds)} behind.`,
    more: furthest ? `Partition ${furthest.partition} is furthest behind, and late${since}.` : "",
    href: address("partitions", null, { projection }),
  };
}

/** Accounts that are parked, or were when that was last known. */
function parked({ projected }) {
  const known = (each) => each.parked ?? each.last_parked;
  const some = projected.filter((each) => known(each) > 0);
  const number = Math.max(0, ...some.map(known));
  if (!number) return [];
  const one = number === 1;
  const sure = some.every((each) => each.parked !== null);
  const verb = sure ? (one ? "is" : "are") : one ? "was" : "were";
  const more = [
    (some.length > 1 || some[0] !== projected[0]) &&
      `${some.map((each) => `${whole(known(each))} in ${each.projection}`).join(", ")}.`,
    !sure && `It is unknown whether ${one ? "it still is" : "they still are"}.`,
  ];
  const what = `${counted(number, THING)} ${verb} parked.`;
  return [{ key: "parked", bad: false, what, more: more.filter(Boolean).join(" "), href: "#/parked" }];
}

const upper = (text) => text[0].toUpperCase() + text.slice(1);
