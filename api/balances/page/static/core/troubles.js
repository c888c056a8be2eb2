// What is wrong with the bank, in sentences, from one reading: a trouble for each cause, with what follows from it.
// Pure.

import { clock, counted, listed, partitionsOf, span, whole } from "./format.js";
import { ROLES, atWork, isSilent, lastAnswer, missed, ofRole } from "./instances.js";
import { BANK, THING } from "./names.js";
import { address } from "./router.js";

/** Seconds behind from which on a projection is late: as the service's alarms have it. */
export const AMBER = 5;

const LONG_MS = 60_000;

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
 * `see`: what there is more of at `href`; `within`: what follows from it; `of`: the projections that it is about.
 * @typedef {{key: string, bad: boolean, what: string, more: string, of?: string[], href?: string, see?: string,
 *   within?: Trouble[]}} Trouble
 */

/**
 * The troubles of a reading, the worst first.
 * @param {import("./shapes.js").Pipeline} reading
 * @returns {Trouble[]}
 */
export const troubles = (reading) =>
  [
    ...reading.servers.filter(({ state }) => state in SERVER).map((each) => SERVER[each.state](each)),
    ...without("accounts", reading),
    ...waiting(reading),
    ...silent(reading),
    ...notReady(reading),
    ...parked(reading),
  ].sort((one, other) => other.bad - one.bad);

/** What is wrong, apart from its figures: while that is the same, there is nothing new to say of it. */
export const sign = ({ key, bad, of = [], within = [] }) => `${key} ${bad} ${of} [${within.map(sign)}]`;

/** What is wrong, and within it, in words. */
export const worded = ({ what, within = [] }) => [what, ...within.map(worded)].join(" ");

/** The first of these causes, with the others and with what follows from it; without one, what would follow. */
function chained([cause, ...others], follows) {
  if (!cause) return follows;
  const rest = [...others, ...follows];
  return [{ ...cause, bad: [cause, ...rest].some(({ bad }) => bad), within: rest }];
}

/** Why events wait, on their way from the event store to the projections. */
function waiting(reading) {
  const behind = late(reading);
  const stuck = behind.length > 0 && isStuck(reading);
  const follows = !stuck && isFollowing(reading) ? behind : [];
  return [
    ...chained(unapplying(reading), stuck ? behind : []),
    ...chained([...without("forwarder", reading), ...leaderless(reading), ...lateStream(reading)], follows),
    ...(stuck || follows.length ? [] : behind),
  ];
}

/** Why partitions have nobody who applies their events, the first cause first. */
function unapplying(reading) {
  const gone = missedWorkers(reading).map((each) => silentWorker(each, reading));
  const several = { key: "silent-workers", bad: true, what: `${gone.length} workers do not answer.`, more: "" };
  const none = without("worker", reading);
  return [...(gone.length > 1 && !none.length ? [several] : none), ...gone, ...ownerless(reading)];
}

/** Whether the projections are late for want of a worker. */
function isStuck(reading) {
  if (without("worker", reading).length) return true;
  const waits = [...unowned(reading), ...missedWorkers(reading).flatMap((each) => held(each, reading))];
  return lateOnes(reading).every(({ furthest }) => furthest && waits.includes(furthest.partition));
}

/** Whether the projections are no later than the stream that they follow. */
const isFollowing = (reading) =>
  lateOnes(reading).every((each) => each.lag_seconds < reading.forwarded.lag_seconds + AMBER);

/** Partitions that no worker has, as far as that is known. */
export const unowned = (reading) =>
  reading.partitions
    .filter((each) => each.owner === null && each.owner_unknown === null)
    .map((each) => each.partition);

/** Whether a worker does not answer, or let its registration run out, and has not said that it ends. */
export const away = ({ name, state }, reading) =>
  state === "lost" || (state === "here" && isSilent(reading, name));

/** The workers that are away, while others have not taken over all that they had. */
export const missedWorkers = (reading) =>
  reading.workers.filter(
    (each) =>
      away(each, reading) &&
      (held(each, reading).length > 0 || (unowned(reading).length > 0 && !isLongGone(each, reading))),
  );

/** Whether a worker is away for so long that what has no worker now is not for its sake. */
const isLongGone = (worker, reading) =>
  Date.parse(reading.at) - Date.parse(lastAnswer(reading, worker)) > LONG_MS;

const held = ({ name }, reading) =>
  reading.partitions.filter((each) => each.owner === name).map((each) => each.partition);

/** What became of a worker that is away. */
export const WHY_SILENT = "It was not stopped in good order: it is frozen, was killed, or is cut off.";

/** By the state of a server. Whether it is away or late, it is the same trouble. */
const SERVER = {
  down: ({ name, detail }) => ({
    key: `down-${name}`,
    bad: true,
    what: `${serverName(name)} is down.`,
    more: [MEANS[name], detail && `${detail}.`].filter(Boolean).join(" "),
  }),
  silent: ({ name }) => ({
    key: `down-${name}`,
    bad: true,
    what: `${serverName(name)} does not answer.`,
    more: "It is overloaded, frozen or cut off. What needs it waits, or fails after some seconds.",
  }),
  slow: ({ name }) => ({
    key: `slow-${name}`,
    bad: false,
    what: `${serverName(name)} is slow.`,
    more: "It left a question unanswered; two in a row mean that it does not answer.",
  }),
};

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
  const its = held(worker, reading);
  const fate = its.length ? `It still has ${partitionsOf(its)}, until its leases run out in some seconds.` : "";
  return {
    key: `silent-${worker.name}`,
    bad: true,
    what: `Worker ${worker.name} does not answer.`,
    more: `${WHY_SILENT} Its last answer came at ${clock(lastAnswer(reading, worker))} UTC. ${fate}`.trim(),
    ...PARTITIONS,
  };
}

/** Processes that do not answer while others of their role do; workers from whom others have taken over. */
const silent = (reading) =>
  ["accounts", "balances", "forwarder", "worker"]
    .filter((role) => atWork(reading, role).length)
    .flatMap((role) => missed(reading, role))
    .filter(({ role, name }) => role !== "worker" || !missedWorkers(reading).some((each) => each.name === name))
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

const PARTITIONS = { href: "#/partitions", see: "the partitions" };

function ownerless(reading) {
  const free = unowned(reading);
  if (!free.length) return [];
  const who = reading.workers.some((each) => each.state === "here") ? "" : " No worker is registered.";
  const what =
    free.length === reading.partitions.length
      ? "No partition has a worker."
      : `${upper(partitionsOf(free))} ${free.length === 1 ? "has" : "have"} no worker.`;
  return [{ key: "nobody", bad: true, what, more: `Their events wait in the stream.${who}`, ...PARTITIONS }];
}

function lateStream({ forwarded }) {
  if (!forwarded.alarm) return [];
  const more = `The oldest event that is stored and not in the stream is ${span(forwarded.lag_seconds)} old.`;
  return [{ key: "late-stream", bad: forwarded.alarm === "red", what: "The stream is late.", more }];
}

const lateOnes = ({ projected }) => projected.filter((each) => each.alarm);

/** The projections that are late, and since when. */
function late(reading) {
  const all = lateOnes(reading);
  if (!all.length) return [];
  const spans = all.map((each) => span(each.lag_seconds));
  const what =
    new Set(spans).size === 1
      ? `${listed(all.map((each) => each.projection))} ${all.length > 1 ? "are" : "is"} ${spans[0]} behind.`
      : `${listed(all.map((each, n) => `${each.projection} is ${spans[n]}`))} behind.`;
  return [
    {
      key: "late",
      of: all.map((each) => each.projection),
      bad: all.some((each) => each.alarm === "red"),
      what,
      more: [...new Set(all.map(furthestOf))].join(" "),
      href: address("partitions", null, { projection: all[0].projection }),
      see: "the partitions",
    },
  ];
}

function furthestOf({ furthest }) {
  if (!furthest) return "";
  const since = furthest.since ? `, and late since ${clock(furthest.since)} UTC` : "";
  return `Partition ${furthest.partition} is furthest behind${since}.`;
}

/** Accounts that are parked, or were when that was last known. */
function parked({ projected }) {
  const known = (each) => each.parked ?? each.last_parked ?? null;
  const some = projected.filter((each) => known(each) > 0);
  const number = Math.max(0, ...some.map(known));
  if (!number) return [];
  const one = number === 1;
  const sure = some.every((each) => each.parked !== null);
  const verb = sure ? (one ? "is" : "are") : one ? "was" : "were";
  const numbers = new Set(projected.map(known));
  const differ = numbers.size > 1;
  const alone = some.length === 1 && !numbers.has(null) ? " alone" : "";
  const where = listed(some.map((each) => `${some.length > 1 ? `${whole(known(each))} ` : ""}in ${each.projection}`));
  const more = [
    differ && `${upper(where)}${alone}.`,
    !sure && `It is unknown whether ${one ? "it still is" : "they still are"}.`,
  ];
  const what = `${counted(number, THING)} ${verb} parked.`;
  const link = { href: "#/parked", see: `the parked ${THING}s` };
  return [{ key: "parked", bad: false, what, more: more.filter(Boolean).join(" "), ...link }];
}

const upper = (text) => text[0].toUpperCase() + text.slice(1);
