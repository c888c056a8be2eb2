// The processes of all roles: which answer, what the others lack, and how much each does.

import { h } from "../core/dom.js";
import { ROLES, STATES, ofRole } from "../core/instances.js";
import { badge, perSecond, time } from "./figures.js";
import { table } from "./tables.js";

const COLUMNS = [
  { name: "Process" },
  { name: "Role" },
  { name: "State" },
  { name: "Does", figures: true },
  { name: "Last answer", minor: true },
];

/** What the rate of a role counts. */
const DOES = { accounts: "commands", forwarder: "events", worker: "events", balances: "requests" };

/** @param {import("../core/shapes.js").Pipeline} reading */
export const processes = (reading) => [
  reading.instances_unknown &&
    h(
      "p",
      { class: "box warn", key: "unknown" },
      h("strong", null, "Which processes answer is unknown. "),
      `${reading.instances_unknown}.`,
    ),
  table(
    "Processes by role",
    COLUMNS,
    Object.keys(ROLES).flatMap((role) => ofRole(reading, role).map(row)),
    "No process has answered yet.",
  ),
];

/** @param {import("../core/shapes.js").Instance} each */
const row = ({ role, name, state, detail, seen, rate }) => ({
  key: `${role}-${name}`,
  cells: [
    name,
    ROLES[role],
    [badge(...STATES[state]), detail && h("div", { class: "dim" }, detail)],
    state === "ready" || state === "waiting"
      ? [perSecond(rate), h("span", { class: "dim" }, ` ${DOES[role]}`)]
      : "–",
    time(seen),
  ],
});
