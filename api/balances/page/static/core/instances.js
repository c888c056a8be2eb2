// The processes of each role as a reading has them. Pure.

import { BANK } from "./names.js";

/** How roles are called, in the order in which a command meets them. */
export const ROLES = {
  accounts: BANK ? "Account service" : "Command service",
  forwarder: "Forwarder",
  worker: "Worker",
  balances: "Balance service",
};

/** What each state is called, and its tone. */
export const STATES = {
  ready: ["good", "ready"],
  waiting: ["warn", "not ready"],
  silent: ["bad", "does not answer"],
  ended: ["plain", "ended"],
  unknown: ["warn", "unknown"],
};

/** For so long a process and the one that replaces it may both be at work. */
const SURGE_MS = 60_000;

const WORST_FIRST = ["silent", "waiting", "unknown", "ready", "ended"];

/** @typedef {import("./shapes.js").Instance} Instance @typedef {import("./shapes.js").Pipeline} Pipeline */

/** @param {Pipeline} reading @returns {Instance[]} those of a role, what needs somebody first */
export const ofRole = (reading, role) =>
  reading.instances
    .filter((each) => each.role === role)
    .sort((one, other) => WORST_FIRST.indexOf(one.state) - WORST_FIRST.indexOf(other.state));

/** Those of a role that may work: of one that is unknown nobody can say that it does not. */
export const atWork = (reading, role) =>
  ofRole(reading, role).filter(({ state }) => state !== "silent" && state !== "ended");

/** Whether the worker of that name is known not to answer, although it has not said that it ends. */
export const isSilent = (reading, name) =>
  reading.instances.some((each) => each.role === "worker" && each.name === name && each.state === "silent");

/**
 * Those of a role that do not answer and that nobody has replaced; the others are history. Each process replaces one:
 * a younger one, whatever became of it since, or one at work that was started beside the old one shortly before.
 * @param {Pipeline} reading @returns {Instance[]}
 */
export function missed(reading, role) {
  const free = new Set(ofRole(reading, role));
  const left = (all, replaces) => all.filter((old) => !free.delete([...free].find((each) => replaces(each, old))));
  const silent = [...free].filter(({ state }) => state === "silent");
  silent.sort((one, other) => other.seen.localeCompare(one.seen));
  return left(left(silent, isYounger), isSurge);
}

const isYounger = (each, { seen }) => each.since > seen;

/** Whether the other process was started beside the old one, which had worked alone, as updates do. */
const isSurge = (each, old) =>
  (each.state === "ready" || each.state === "waiting") &&
  Date.parse(old.seen) - Date.parse(each.since) < SURGE_MS &&
  Date.parse(each.since) - Date.parse(old.since) > SURGE_MS;

/** When a worker was last heard: by its answers or, of one that was never asked, by its registration. */
export const lastAnswer = (reading, { name, seen }) =>
  ofRole(reading, "worker")
    .filter((each) => each.name === name)
    .reduce((last, each) => (each.seen > last ? each.seen : last), "") || seen;
