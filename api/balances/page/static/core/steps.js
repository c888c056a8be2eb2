// What an event did to an account: the state before it beside the state after it. Pure.

import { isExact, signed, whole } from "./format.js";

/**
 * @typedef {{id: string, owner: string, balance: number, available: number, version: number, status: string,
 *   holds: {id: string, money: number, expires_at: string}[]}} State
 * @typedef {{version: number, event: Record<string, any>, before: State | null, after: State | null,
 *   unreadable: string | null, unreadable_from: number | null}} Step `after` is null where the event, or one before
 *   it, whose version is `unreadable_from`, can't be folded
 * @typedef {{name: string, before: string | null, after: string | null, changed: boolean}} Field
 */

const held = (state) => state.holds.reduce((sum, each) => sum + each.money, 0);

const SHOWN = [
  ["Owner", (state) => state.owner],
  ["Balance", (state) => exact(state.balance)],
  ["Held", (state) => `${exact(held(state))}${state.holds.length ? ` in ${state.holds.length}` : ""}`],
  ["Available", (state) => exact(state.available)],
  ["Status", (state) => state.status],
  ["Version", (state) => whole(state.version)],
];

/** The fields of which the line tells what they became. */
const WORDED = new Set(["Owner", "Held", "Status"]);

/** @param {Step} step @returns {Field[]} each field of the account, as text; null where there was no account yet */
export const fields = ({ before, after }) =>
  SHOWN.map(([name, of]) => {
    const [old, fresh] = [before && of(before), after && of(after)];
    return { name, before: old, after: fresh, changed: old !== fresh };
  });

/** By how much the balance changed; null where a figure is not exact. @param {Step} step */
export function moved({ before, after }) {
  const [old, fresh] = [before?.balance ?? 0, after?.balance];
  return isExact(old) && isExact(fresh) ? fresh - old : null;
}

/** The fold of this step as a line of arithmetic or of words: `balance 70 + 25 = 95`. @param {Step} step */
export function folded(step) {
  if (step.after === null) return "not folded";
  const by = moved(step);
  const [old, fresh] = [step.before?.balance ?? 0, step.after.balance];
  const line = () => `balance ${whole(old)} ${by > 0 ? "+" : "−"} ${whole(Math.abs(by))} = ${whole(fresh)}`;
  const money = by === null ? ["a balance that can't be shown exactly"] : by ? [line()] : [];
  const others = fields(step)
    .filter(({ name, changed }) => changed && WORDED.has(name))
    .filter(({ before, after }) => before !== null || after !== "0")
    .map(({ name, before, after }) => `${name.toLowerCase()} ${before === null ? "" : `${before} → `}${after}`);
  return [...money, ...others].join("; ") || "nothing but the version";
}

/** A signed amount for a list; a dash where nothing moved. @param {Step} step */
export const amount = (step) => (moved(step) === null ? "?" : moved(step) ? signed(moved(step)) : "–");

const exact = (number) => (isExact(number) ? whole(number) : `${number}, not exact`);
