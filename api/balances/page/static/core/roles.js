// What a role may do here. The service decides; this only keeps from offering what it will refuse.

const OBSERVERS = ["viewer", "operator"];
const READERS = ["teller", "viewer", "operator"];

const MAY = {
  watch: OBSERVERS,
  operate: ["operator"],
  list: READERS,
  pay: ["teller"],
  draw: ["teller", "customer"],
};

/**
 * Whether `who` may `watch` the bank's works, `operate` them, `list` accounts, `pay` into them or `draw` from them.
 * Without keys everybody may; while nobody knows who it is, so it seems.
 * @param {import("./shapes.js").Who | null} who
 * @param {"watch" | "operate" | "list" | "pay" | "draw"} what
 */
export const may = (who, what) => !who?.keys || MAY[what].includes(who.role);

/** Why something is not offered. */
export const refused = (who) => `This takes an operator's key. Yours is a ${who.role}'s.`;
