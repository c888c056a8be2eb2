// Partitions in groups, one for each worker, and those that nobody has. Pure.

import { partitionsOf } from "./format.js";

/**
 * @typedef {import("./shapes.js").Partition} Partition
 * @typedef {{key: string, name: string, state: "here" | "left" | "lost" | "nobody" | "unknown",
 *   worker: import("./shapes.js").Worker | null, partitions: Partition[], words: string | null}} Group
 */

/** What comes first is what needs somebody. */
const ORDER = ["nobody", "lost", "unknown", "here", "left"];

/**
 * @param {import("./shapes.js").Pipeline} reading
 * @param {Partition[]} partitions
 * @returns {Group[]}
 */
export function groups(reading, partitions) {
  const nobodys = partitions.filter((each) => each.owner === null && each.owner_unknown === null);
  const unknowns = partitions.filter((each) => each.owner === null && each.owner_unknown !== null);
  const names = new Set([
    ...reading.workers.map((each) => each.name),
    ...partitions.map((each) => each.owner).filter(Boolean),
  ]);
  const found = [...names].map((name) => ofWorker(name, reading, partitions, nobodys));
  if (nobodys.length)
    found.push(
      group(
        "nobody",
        "Nobody",
        "nobody",
        nobodys,
        "Events of these partitions wait until a worker takes them.",
      ),
    );
  if (unknowns.length)
    found.push(group("unknown", "Owner unknown", "unknown", unknowns, unknowns[0].owner_unknown));
  return found.sort(
    (one, other) =>
      ORDER.indexOf(one.state) - ORDER.indexOf(other.state) || one.name.localeCompare(other.name),
  );
}

function ofWorker(name, reading, partitions, nobodys) {
  const worker = reading.workers.find((each) => each.name === name) ?? null;
  const its = partitions.filter((each) => each.owner === name);
  return {
    ...group(
      `w-${name}`,
      name,
      worker?.state ?? "unknown",
      its,
      worker ? fate(worker, its, nobodys) : reading.workers_unknown,
    ),
    worker,
  };
}

/** What became of a worker that is no more, and of its partitions. */
function fate(worker, its, nobodys) {
  if (worker.state !== "lost") return null;
  const said = "It ended without a goodbye: killed, or cut off.";
  const free = nobodys.map((each) => each.partition);
  if (its.length) return `${said} Its leases run out in some seconds; then others take over.`;
  if (free.length) return `${said} Nobody has ${partitionsOf(free)} yet.`;
  return `${said} Others have taken over what it had.`;
}

const group = (key, name, state, partitions, words) => ({
  key,
  name,
  state,
  partitions,
  words,
  worker: null,
});
