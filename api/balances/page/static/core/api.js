// Requests to the balance service, with the key if there is one. What goes wrong is a `Problem`.

import { key, refuse } from "./key.js";

const PATIENCE_MS = 20_000;

/** What an answer says that is none: the problem document's title and detail, or what comes near. */
export class Problem extends Error {
  /** @param {number} status 0: there was no answer @param {Record<string, any>} more the document's other members */
  constructor(status, title, detail, type = "", more = {}) {
    super(title);
    Object.assign(this, { status, title, detail, type, more });
  }

  /** Whether it is of the type `/problems/{name}`. */
  is(name) {
    return this.type === `/problems/${name}`;
  }
}

const unreachable = () => new Problem(0, "No answer", "The balance service can't be reached from here.");
const tooSlow = () =>
  new Problem(0, "No answer", `The balance service took longer than ${PATIENCE_MS / 1000} seconds.`);

/**
 * The answer, if it is one; else throws its `Problem`, or the AbortError of `signal`.
 * @param {string} path
 * @param {{method?: string, body?: unknown, signal?: AbortSignal, accept?: string, headers?: Record<string, string>}}
 *   [options]
 * @returns {Promise<Response>}
 */
export async function ask(path, { method = "GET", body, signal, accept, headers: more = {} } = {}) {
  const used = key();
  const headers = authorised(used);
  for (const [name, value] of Object.entries(more)) headers.set(name, value);
  if (accept) headers.set("Accept", accept);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const request = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) request.body = JSON.stringify(body);
  const answer = await fetch(path, request).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw error.name === "TimeoutError" ? tooSlow() : unreachable();
  });
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (problem.status === 401) refuse(used, problem);
  throw problem;
}

/** Headers with the key; of one that no header can carry it is known without asking that it is none. */
function authorised(used) {
  try {
    return new Headers(used ? { Authorization: `Bearer ${used}` } : {});
  } catch {
    const problem = new Problem(
      401,
      "This is no key",
      "It has characters that no key has.",
      "/problems/key-invalid",
    );
    refuse(used, problem);
    throw problem;
  }
}

/** The JSON of an answer that comes within some seconds; null of an empty one. */
export const get = async (path, options = {}) => (await told(path, options)).value;

/** The same, as `value`, beside the answer itself. */
export async function told(path, options = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, patience]) : patience;
  const answer = await ask(path, { ...options, signal });
  try {
    const text = await answer.text();
    return { answer, value: text === "" ? null : JSON.parse(text) };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(
      answer.status,
      "Unreadable answer",
      "What the balance service sent is not JSON, or was cut off.",
    );
  }
}

/** A path with parameters; those that are null, undefined or empty are left out. */
export function path(place, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => (value ?? "") !== "");
  return given.length ? `${place}?${new URLSearchParams(given)}` : place;
}

async function problemOf(answer) {
  const fallback = { title: `Status ${answer.status}`, detail: "The balance service gave no more detail." };
  const { title, detail, type, ...more } = { ...fallback, ...(await answer.json().catch(() => ({}))) };
  return new Problem(answer.status, String(title), String(detail), String(type ?? ""), more);
}
