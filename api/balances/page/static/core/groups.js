// Partitions in groups, one for each worker, and those that have none. Pure.

import { lastAnswer } from "./instances.js";
import { WHY_SILENT, away } from "./troubles.js";

/**
 * @typedef {import("./shapes.js").Partition} Partition
 * @typedef {{key: string, name: string, state: "here" | "left" | "silent" | "nobody" | "unknown",
 *   seen: string | null, partitions: Partition[], words: string | null}} Group `seen`: when its last answer came
 */

/** What comes first is what needs somebody. */
const ORDER = ["nobody", "silent", "unknown", "here", "left"];

/**
 * @param {import("./shapes.js").Pipeline} reading
 * @param {Partition[]} partitions
 * @returns {Group[]}
 */
export function groups(reading, partitions) {
  const free = partitions.filter((each) => each.owner === null && each.owner_unknown === null);
  const unknowns = partitions.filter((each) => each.owner === null && each.owner_unknown !== null);
  const names = new Set([
    ...reading.workers.map((each) => each.name),
    ...partitions.map((each) => each.owner).filter(Boolean),
  ]);
  const found = [...names].map((name) => ofWorker(name, reading, partitions, free));
  if (free.length)
    found.push(
      group(
        "nobody",
        "No worker",
        "nobody",
        free,
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

function ofWorker(name, reading, partitions, free) {
  const worker = reading.workers.find((each) => each.name === name) ?? null;
  const its = partitions.filter((each) => each.owner === name);
  const silent = worker !== null && away(worker, reading);
  return {
    ...group(
      `w-${name}`,
      name,
      worker === null ? "unknown" : silent ? "silent" : worker.state,
      its,
      worker === null ? reading.workers_unknown : silent ? fate(its, free) : null,
    ),
    seen: worker && lastAnswer(reading, worker),
  };
}

/** What became of a worker that does not answer, and of its partitions. */
function fate(its, free) {
  if (its.length) return `${WHY_SILENT} Its leases run out in some seconds; then others take over.`;
  if (free.length) return `${WHY_SILENT} ${free.length === 1 ? "A partition has" : "Partitions have"} no worker yet.`;
  return `${WHY_SILENT} Others have taken over what it had.`;
}

const group = (key, name, state, partitions, words) => ({
  key,
  name,
  state,
  partitions,
  words,
  seen: null,
});
