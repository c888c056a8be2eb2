// Lines of the timeline: those of the audit log in words, and which view shows what a line is about. Pure.

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

/** What people ask for, by the name that the audit log has for it. */
const ASKED = {
  __proto__: null,
  "key-created": "Key made",
  "key-used": "Key used",
  "key-refused": "Key refused",
  "key-revoked": "Key revoked",
  "rebuild-started": "Rebuild started",
  "rebuild-cancelled": "Rebuild cancelled",
  repartition: "Repartition asked for",
  replicas: "Replicas changed",
  repair: "Repair",
  "parked-retry": "Retry asked for",
  "parked-drop": "Taken off the list of the parked",
  seal: "Sealed",
  forget: "Forgotten",
};

/** A line of the audit log in the shape of what happened. */
export const audited = ({ id, time, actor, action, target, outcome }) => ({
  key: id,
  at: time,
  kind: "audit",
  tone: action === "key-refused" ? "warn" : "audit",
  what: `${ASKED[action] ?? action}${target && `: ${target}`}`,
  detail: `by ${[actor.user ?? actor.key, actor.role].filter(Boolean).join(" ")}${outcome === "done" ? "" : `, ${outcome}`}`,
});
