// Minutes of activity as columns of figures. Pure.

/** What is shown together, from the top of the stack down, with its colour in the style sheet. */
export const GROUPS = [
  { name: "Other", kinds: null, colour: "--other" },
  { name: "Opened", kinds: ["AccountCreated"], colour: "--opened" },
  { name: "Paid out", kinds: ["MoneyWithdrawn"], colour: "--out" },
  { name: "Paid in", kinds: ["MoneyDeposited"], colour: "--in" },
];

/** What can be shown of a kind, and how it is called. */
export const SHOWN = { events: "Events", money: "Money, in minor units" };

const NAMED = new Set(GROUPS.flatMap(({ kinds }) => kinds ?? []));

/**
 * What a minute has of some kinds; of those that no group names with `kinds` null.
 * @param {{kinds: Record<string, {events: number, money: number}>}} minute
 * @param {"events" | "money"} what
 */
export const summed = (minute, kinds, what) =>
  Object.entries(minute.kinds)
    .filter(([kind]) => (kinds ? kinds.includes(kind) : !NAMED.has(kind)))
    .reduce((sum, [, figures]) => sum + figures[what], 0);

/** Columns as heights of a stack: to each is added all that comes after it. */
export const stacked = (columns) =>
  columns.map((column, n) =>
    column.map((value, at) => columns.slice(n + 1).reduce((sum, below) => sum + below[at], value)),
  );
