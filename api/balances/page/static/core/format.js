// Figures as text. What is not known is never a figure here: callers say so (parts/figures.js).

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE_DIGIT = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A whole number with its digits in groups: 1,234,567. */
export const whole = (number) => GROUPED.format(number);

/** Whether a number is a whole one that JSON brought over exactly. */
export const isExact = (number) => Number.isSafeInteger(number);

/** A signed amount of minor units: +1,200, −80; 0 has no sign. */
export const signed = (amount) => (amount > 0 ? "+" : amount < 0 ? "−" : "") + whole(Math.abs(amount));

/** A whole number in little room, for the axes of charts: 1.2M. */
export const compact = (number) => COMPACT.format(number);

/** Events a second: one decimal while they are few. */
export const rate = (perSecond) => (Math.abs(perSecond) < 10 ? ONE_DIGIT : GROUPED).format(perSecond);

/** A short time: 4.1 ms, 812 ms; from ten seconds on as a time span. */
export function milliseconds(number) {
  if (number < 0) return `−${milliseconds(-number)}`;
  return number < 10_000 ? `${rate(number)} ms` : span(number / 1000);
}

/** A time span: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function span(seconds) {
  if (seconds < 10) return `${ONE_DIGIT.format(Math.max(0, seconds))} s`;
  const all = Math.round(seconds);
  if (all < MINUTE) return `${all} s`;
  if (all < HOUR) return two(all, MINUTE, "min", 1, "s");
  if (all < DAY) return two(all, HOUR, "h", MINUTE, "min");
  return two(all, DAY, "d", HOUR, "h");
}

function two(all, big, bigName, small, smallName) {
  const rest = Math.floor((all % big) / small);
  return `${Math.floor(all / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** The title of a problem by its name, as the service words it: `insufficient-funds` is Insufficient funds. */
export const titleOf = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("-", " ");

/** The time of day of an RFC 3339 moment or a Date, in UTC: 14:02:33. */
export const clock = (moment) => iso(moment).slice(11, 19);

/** Hours and minutes of it: 14:02. */
export const minute = (moment) => iso(moment).slice(11, 16);

/** Day and time of it: 2026-11-27 14:02:33. */
export const moment = (when) => iso(when).slice(0, 19).replace("T", " ");

/** Whether it is a moment at all: hands may have written anything. */
export const isMoment = (when) => !Number.isNaN(new Date(when ?? NaN).getTime());

const iso = (when) => (isMoment(when) ? new Date(when).toISOString() : "unknown time");

/** `3 accounts`, `1 account`. */
export const counted = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

/** `partition 3`, `partitions 4–7 and 9`. */
export const partitionsOf = (numbers) => `partition${numbers.length === 1 ? "" : "s"} ${ranges(numbers)}`;

/** Numbers in words: `0–3, 5 and 7`. */
export function ranges(numbers) {
  const runs = [];
  for (const each of [...numbers].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && each === last[1] + 1) last[1] = each;
    else runs.push([each, each]);
  }
  const words = runs.map(([from, to]) =>
    from === to ? `${from}` : to === from + 1 ? `${from}, ${to}` : `${from}–${to}`,
  );
  return listed(words) || "none";
}

/** Words in a sentence: `a, b and c`. */
export const listed = (words) =>
  words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words.join("");
