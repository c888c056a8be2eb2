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
 * Those of a role that do not answer and that no younger one has replaced; the others are history.
 * @param {Pipeline} reading @returns {Instance[]}
 */
export function missed(reading, role) {
  const bySeen = ofRole(reading, role)
    .filter(({ state }) => state === "silent")
    .sort((one, other) => (one.seen < other.seen ? -1 : 1));
  const younger = ({ seen }) => atWork(reading, role).filter(({ since }) => since > seen);
  return bySeen.filter((each, before) => younger(each).length <= before);
}

/** When a worker was last heard: by its answers or, of one that was never asked, by its registration. */
export const lastAnswer = (reading, { name, seen }) =>
  ofRole(reading, "worker")
    .filter((each) => each.name === name)
    .reduce((last, each) => (each.seen > last ? each.seen : last), "") || seen;
