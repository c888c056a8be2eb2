// The events as they are forwarded: one stream, of which the last that fit the filters are kept. However
// many come, `changed` is called a few times a second at most. A tab that is hidden takes no stream: a browser has few
// connections to one service, and those that are seen need them.

import { ask, path, Problem } from "./api.js";
import { events } from "./events.js";

/** Events that are kept. */
export const KEPT = 300;
const DRAW_MS = 400;
/** From when a hand lets go of the list until it goes on: a tap lets go just before it presses. */
const LET_GO_MS = 400;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/** @typedef {{kind: string, account: string, correlation: string, text: string}} Filters "" is any */

/** Whether the event, as the line that came and as it reads, fits. @param {Filters} wanted */
export const fits = (event, line, { kind, account, correlation, text }) =>
  (!kind || event.type === kind) &&
  (!account || event.subject === account) &&
  (!correlation || event.correlationid === correlation) &&
  (!text || line.toLowerCase().includes(text.toLowerCase()));

export class EventFeed {
  /** @type {Problem | null} why nothing comes at the moment */
  problem = null;
  /** Whether the service has not answered yet. */
  waiting = true;
  /** How many came in all, whether they fit or not. */
  came = 0;
  paused = false;
  #holds = new Set();
  #lettingGo = new Map();
  #kept = [];
  #shown = [];
  #filters = null;
  #changed;
  #signal;
  #running = null;
  #after = "recent";
  #timer = 0;

  /** @param {() => void} changed @param {AbortSignal} signal ends it */
  constructor(changed, signal) {
    this.#changed = changed;
    this.#signal = signal;
    document.addEventListener("visibilitychange", () => this.#filters && this.#run(), { signal });
    signal.addEventListener("abort", () => {
      this.#running?.abort();
      [this.#timer, ...this.#lettingGo.values()].forEach((each) => clearTimeout(each));
    });
  }

  /** Whether the list stands still: it was paused, or something holds it. */
  get still() {
    return this.paused || this.#holds.size > 0;
  }

  /** What fits, the newest first; while it stands still as it was then. */
  get events() {
    return this.still ? this.#shown : this.#newest();
  }

  /** How many came since it stands still. */
  get more() {
    const last = this.#shown[0];
    return this.still ? this.#kept.length - 1 - this.#kept.lastIndexOf(last) : 0;
  }

  /** Begin again with what is recent, by these filters. @param {Filters} filters */
  begin(filters = this.#filters) {
    this.#filters = filters;
    [this.#kept, this.#after, this.came, this.paused] = [[], "recent", 0, false];
    this.#holds.clear();
    this.#run();
    this.#changed();
  }

  /** Go on after the last event that came, if it can be seen. */
  #run() {
    this.#running?.abort();
    if (document.hidden) return;
    this.#running = new AbortController();
    this.#follow(this.#running.signal);
  }

  pause(paused) {
    this.#stand(() => (this.paused = paused));
  }

  /** Let the list stand still while something, such as the pointer, is in it. @param {string} by what */
  hold(by, holds, after = LET_GO_MS) {
    clearTimeout(this.#lettingGo.get(by));
    if (holds) {
      if (!this.#holds.has(by)) this.#stand(() => this.#holds.add(by));
    } else if (this.#holds.has(by))
      this.#lettingGo.set(by, setTimeout(() => this.#stand(() => this.#holds.delete(by)), after));
  }

  #stand(change) {
    if (!this.still) this.#shown = this.#newest();
    change();
    this.#changed();
  }

  #newest() {
    return this.#kept.slice(-KEPT).reverse();
  }

  async #follow(signal) {
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const before = this.came;
      const problem = await this.#read(signal);
      if (signal.aborted) return;
      [this.waiting, this.problem] = [false, problem];
      this.#changed();
      if (problem.status === 401 || problem.status === 403) return;
      pause = this.came > before ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** Read until it breaks off; why it did. */
  async #read(signal) {
    try {
      const place = path("/events", { after: this.#after });
      const answer = await ask(place, { signal, accept: "text/event-stream" });
      const anew = this.waiting || this.problem;
      [this.waiting, this.problem] = [false, null];
      if (anew) this.#changed();
      for await (const { data } of events(answer.body)) this.#take(data);
      return new Problem(0, "Connection lost", "The balance service ended the stream of events.");
    } catch (error) {
      if (error instanceof Problem) return error;
      return new Problem(0, "Connection lost", "The stream of events broke off.");
    }
  }

  #take(line) {
    const event = JSON.parse(line);
    this.#after = event.position;
    this.came += 1;
    if (fits(event, line, this.#filters)) this.#kept.push(event);
    if (this.#kept.length > 2 * KEPT) this.#kept = this.#kept.slice(-KEPT);
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#changed();
    }, DRAW_MS);
  }
}
