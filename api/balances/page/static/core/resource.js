// Something read by request: its last value, when that was read, and what went wrong since.

import { Problem } from "./api.js";

/** @template T */
export class Resource {
  /** @type {T | null} */
  value = null;
  /** @type {Date | null} when `value` was read */
  at = null;
  /** @type {Problem | null} why the last reading failed */
  problem = null;
  #load;
  #changed;
  #signal;
  #number = 0;
  #asking = false;

  /**
   * @param {(signal: AbortSignal) => Promise<T>} load
   * @param {() => void} changed called after every reading
   * @param {AbortSignal} signal ends it
   */
  constructor(load, changed, signal) {
    this.#load = load;
    this.#changed = changed;
    this.#signal = signal;
  }

  /** Whether there is nothing yet, neither a value nor a reason. */
  get waiting() {
    return !this.value && !this.problem;
  }

  /** Whether nothing was read, for a reason that another one has, too. @param {Problem | null} problem */
  failedAs(problem) {
    return !this.value && this.problem !== null && this.problem.detail === problem?.detail;
  }

  /** Drop the value: another one is asked for from now on. */
  clear() {
    this.#number += 1;
    this.#asking = false;
    this.value = this.at = this.problem = null;
  }

  /** Read it anew if it is older than that, unless it is being read: an answer may be slower than those who ask. */
  keep(milliseconds) {
    const age = this.at ? Date.now() - this.at.getTime() : Infinity;
    if (!this.#asking && age > milliseconds) this.refresh();
  }

  /** Read it anew. An answer that was overtaken by a later question is dropped. */
  async refresh() {
    const number = (this.#number += 1);
    this.#asking = true;
    try {
      const value = await this.#load(this.#signal);
      if (number !== this.#number) return;
      Object.assign(this, { value, at: new Date(), problem: null });
    } catch (error) {
      if (this.#signal.aborted || number !== this.#number) return;
      if (!(error instanceof Problem)) throw error;
      this.problem = error;
    } finally {
      if (number === this.#number) this.#asking = false;
    }
    this.#changed();
  }
}
