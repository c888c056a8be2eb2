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
const money = (more = {}) => ({ name: "money", label: "Money", hint: "In whole minor units.", kind: "money", ...more });
const hold = { name: "hold", label: "Hold", hint: "Its id, as the event has it.", kind: "account" };
const seconds = {
  name: "seconds",
  label: "For how many seconds",
  hint: "A day unless you say.",
  kind: "seconds",
  empty: DAY_SECONDS,
};

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
      seconds,
    ],
  },
  capture: {
    name: "Capture a hold",
    done: "Captured",
    right: "pay",
    fields: [
      account("id", "Account"),
      hold,
      money({ hint: "In whole minor units. All that is held unless you say.", empty: undefined }),
    ],
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
    const wrong = text === "" && "empty" in field ? null : fault(field, text);
    if (wrong) faults[field.name] = wrong;
    else if (text !== "") body[field.name] = isNumber(field) ? Number(text) : text;
    else if (field.empty !== undefined) body[field.name] = field.empty;
  }
  return { body, faults };
}

/** Whether a field is a whole number. @param {Field} field */
export const isNumber = ({ kind }) => kind === "money" || kind === "seconds";

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
  const { account: named, errors = [] } = problem.more;
  const faults = Object.fromEntries(errors.map(({ pointer = "", detail }) => [pointer.slice(2), detail]));
  const about = ABOUT[problem.type.split("/").at(-1)] ?? names.find((name) => named && body[name] === named);
  if (about) faults[about] = problem.detail;
  return Object.fromEntries(Object.entries(faults).filter(([name]) => names.includes(name)));
}

/** A new idempotency key: 128 random bits. */
export const newKey = () =>
  `page-${[...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("")}`;

/**
 * Send it under this key; the answer, and the correlation id of what was executed.
 * @returns {Promise<{id: string, version: number, correlation: string | null}>}
 */
export async function send(command, body, key) {
  const headers = { "Idempotency-Key": key };
  const { value, answer } = await told(`/commands/${command}`, { method: "POST", body, headers });
  const { id, version } = value;
  // What was executed before has the correlation id of its first sending.
  const correlation = answer.headers.has("Idempotent-Replayed")
    ? await correlationOf(id, version)
    : answer.headers.get("X-Correlation-ID");
  return { id, version, correlation };
}

async function correlationOf(id, version) {
  try {
    return (await told(`/events/${id}/${version}`)).value.event.correlation_id;
  } catch (error) {
    if (error instanceof Problem) return null; // the key does not see events, or the store is away
    throw error;
  }
}
