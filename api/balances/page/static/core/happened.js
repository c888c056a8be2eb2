// Which view shows what a line of the timeline is about. Pure.

import { address } from "./router.js";

/** By the kind of what happened: the words of the link, and the address, of what it is about. */
const PLACES = {
  __proto__: null,
  server: ["See the servers", () => address("overview")],
  forwarder: ["See the forwarder", () => address("overview")],
  role: ["See the processes", () => address("overview")],
  worker: ["See the workers", () => address("partitions")],
  partitions: ["See the partitions", () => address("partitions")],
  lag: ["See its partitions", (about) => address("partitions", null, { projection: about })],
  rebuild: ["See the rebuilds", () => address("rebuild")],
  parked: ["See what is parked", () => address("parked")],
};

/** @returns {{words: string, href: string} | null} null where no view shows it */
export function placeOf({ kind, about }) {
  const [words, to] = PLACES[kind] ?? [];
  return to ? { words, href: to(about) } : null;
}
