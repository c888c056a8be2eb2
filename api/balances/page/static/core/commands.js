// What can be sent to accounts: the fields of each command, what is wrong in them, and one sending of it. Pure, but
// for `send`.

import { Problem, told } from "./api.js";

const ID = /^[0-9A-Z]{26}$/;
const DIGITS = /^[0-9]{1,16}$/;
const DAY_SECONDS = 86_400;

/**
 * @typedef {{name: string, label: string, hint?: string, kind: "words" | "account" | "money" | "seconds",
 *   empty?: unknown, least?: number}} Field `empty`: what is sent where nothing is given; undefined: it is left out
 */
const account = (name, label) => ({ name, label, kind: "account" });
const money = (more = {}) => ({ name: "money", label: "Money", hint: "In whole minor units: 1250 is 12.50.", kind: "money", ...more });
const hold = { name: "hold", label: "Hold", hint: "Its id, as the account and the event have it.", kind: "account" };

/** By command: its name, what it did once it is done, who may send it, and its fields. */
export const COMMANDS = {
  create: {
    name: "Open an account",
    done: "The account is open",
    right: "pay",
    fields: [{ name: "owner", label: "Owner", kind: "words" }, money({ label: "Money in it", least: 0, empty: 0 })],
  },
  deposit: { name: "Pay in", done: "Paid in", right: "pay", fields: [account("id", "Account"), money()] },
  withdraw: { name: "Withdraw", done: "Paid out", right: "draw", fields: [account("id", "Account"), money()] },
  transfer: {
    name: "Transfer",
    done: "Transferred",
    right: "draw",
    fields: [account("from", "From account"), account("to", "To account"), money()],
  },
  hold: {
    name: "Hold",
    done: "Held",
    right: "pay",
    fields: [
      account("id", "Account"),
      money({ hint: "In whole minor units. It stays in the balance, and is not available." }),
      { name: "seconds", label: "For how many seconds", hint: "A day unless you say.", kind: "seconds", empty: DAY_SECONDS },
    ],
  },
  capture: {
    name: "Capture a hold",
    done: "Captured",
    right: "pay",
    fields: [account("id", "Account"), hold, money({ hint: "In whole minor units. All that is held unless you say.", empty: undefined })],
  },
  void: { name: "Void a hold", done: "Voided", right: "pay", fields: [account("id", "Account"), hold] },
};

/**
 * What was given, as the body of the command, and what is wrong by field.
 * @param {string} command @param {Record<string, string>} given
 * @returns {{body: Record<string, unknown>, faults: Record<string, string>}}
 */
export function checked(command, given) {
  const [body, faults] = [{}, {}];
  for (const field of COMMANDS[command].fields) {
    const text = (given[field.name] ?? "").trim();
    if (text === "" && "empty" in field) Object.assign(body, field.empty === undefined ? {} : { [field.name]: field.empty });
    else if (fault(field, text)) faults[field.name] = fault(field, text);
    else body[field.name] = field.kind === "money" || field.kind === "seconds" ? Number(text) : text;
  }
  return { body, faults };
}

function fault({ kind, least = 1 }, text) {
  if (text === "") return "This is needed.";
  if (kind === "words") return null;
  if (kind === "account") return ID.test(text) ? null : "An id has 26 characters of 0–9 and A–Z.";
  if (!DIGITS.test(text)) return "A whole number, in digits alone.";
  if (Number(text) < least) return `At least ${least}.`;
  return Number.isSafeInteger(Number(text)) ? null : "That is too much: less than 2^53.";
}

/** Problems that are about one field. */
const ABOUT = {
  "insufficient-funds": "money",
  "balance-too-large": "money",
  "hold-too-small": "money",
  "payee-refused": "to",
  "transfer-to-self": "to",
  "hold-not-found": "hold",
  "hold-too-long": "seconds",
};

/** What the service says is wrong, by field; nothing where it is about none. @param {Problem} problem */
export function faultsOf(command, problem, body) {
  const names = COMMANDS[command].fields.map(({ name }) => name);
  const faults = {};
  for (const { pointer = "", detail } of problem.more.errors ?? []) faults[pointer.replace(/^#\//, "")] = detail;
  const about =
    ABOUT[problem.type.split("/").at(-1)] ?? names.find((name) => problem.more.account && body[name] === problem.more.account);
  if (about) faults[about] = problem.detail;
  return Object.fromEntries(Object.entries(faults).filter(([name]) => names.includes(name)));
}

/** A new idempotency key: 128 random bits. */
export const newKey = () =>
  `page-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("")}`;

/**
 * Send it under this key; the answer, and the correlation id of what was executed.
 * @returns {Promise<{id: string, version: number, correlation: string | null}>}
 */
export async function send(command, body, key) {
  const headers = { "Idempotency-Key": key };
  const { value, answer } = await told(`/commands/${command}`, { method: "POST", body, headers });
  const { id, version } = value;
  // Of a command that was executed before, that is the id of the first sending, which its event has.
  const first = answer.headers.has("Idempotent-Replayed");
  return { id, version, correlation: first ? await correlationOf(id, version) : answer.headers.get("X-Correlation-ID") };
}

async function correlationOf(id, version) {
  try {
    return (await told(`/events/${id}/${version}`)).value.event.correlation_id;
  } catch (error) {
    if (error instanceof Problem) return null; // the key does not see events, or the store is away
    throw error;
  }
}
