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

  /** Milliseconds since `value` was read; Infinity before. */
  get age() {
    return this.at ? Date.now() - this.at.getTime() : Infinity;
  }

  /** Whether there is nothing yet, neither a value nor a reason. */
  get waiting() {
    return !this.value && !this.problem;
  }

  /** Drop the value: another one is asked for from now on. */
  clear() {
    this.#number += 1;
    this.value = this.at = this.problem = null;
  }

  /** Read it anew. An answer that was overtaken by a later question is dropped. */
  async refresh() {
    const number = (this.#number += 1);
    try {
      const value = await this.#load(this.#signal);
      if (number !== this.#number) return;
      Object.assign(this, { value, at: new Date(), problem: null });
    } catch (error) {
      if (this.#signal.aborted || number !== this.#number) return;
      if (!(error instanceof Problem)) throw error;
      this.problem = error;
    }
    this.#changed();
  }
}
