// The pipeline as it is now: one stream of readings, taken up again whenever it breaks off, and how
// old the last reading is. Ages go by this machine's own clock, from when a reading came.

import { Problem, ask } from "./api.js";
import { events } from "./events.js";
import { Hour } from "./hour.js";
import { completed } from "./reading.js";
import { Recent } from "./recent.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** A stream that has brought nothing for so long is taken for dead. */
const SILENCE_MS = 12_000;
/** Readings come about once a second; one that is older than this is called old. */
export const OLD_MS = 6_000;

/** Tells `change` when there is a reading or a failure, and once a second in between. */
export class Live extends EventTarget {
  /** @type {import("./shapes.js").Pipeline | null} */
  reading = null;
  /** @type {"off" | "connecting" | "live" | "lost" | "paused"} off: not started, or refused */
  state = "off";
  /** @type {Problem | null} why it is lost or off */
  problem = null;
  recent = new Recent();
  hour = new Hour();
  #came = 0;
  #retryAt = 0;
  #going = null;
  #wake = () => {};

  constructor() {
    super();
    setInterval(() => this.#tell(), 1000);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#stop();
      else if (this.state !== "off") this.start();
    });
  }

  /** Milliseconds since the last reading came; Infinity before the first. */
  get age() {
    return this.reading ? performance.now() - this.#came : Infinity;
  }

  get old() {
    return this.age > OLD_MS;
  }

  /** Seconds until it tries again; 0 when it does now. */
  get retryIn() {
    return Math.max(0, Math.ceil((this.#retryAt - performance.now()) / 1000));
  }

  /** Follow the stream, from anew if it does already. */
  start() {
    if (this.state === "paused") return;
    this.#stop();
    this.#turn("connecting");
    if (document.hidden) return;
    this.#going = new AbortController();
    this.#follow(this.#going.signal);
  }

  /** Follow nothing any more, and forget what was read. */
  end() {
    this.#stop();
    this.reading = null;
    this.recent = new Recent();
    this.hour = new Hour();
    this.#turn("off");
  }

  pause() {
    this.#stop();
    this.#turn("paused");
  }

  resume() {
    this.#turn("connecting");
    this.start();
  }

  /** Try again now. */
  hurry() {
    this.#wake();
  }

  /** Call `heard` at each change until `signal` aborts, and at once. */
  follow(heard, signal) {
    this.addEventListener("change", heard, { signal });
    heard();
  }

  #stop() {
    this.#going?.abort();
    this.#wake();
  }

  async #follow(signal) {
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const before = this.#came;
      const problem = await this.#read(signal);
      if (signal.aborted) return;
      this.problem = problem;
      if (problem.status === 401 || problem.status === 403) return this.end();
      pause = this.#came > before ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      this.#retryAt = performance.now() + pause * (0.75 + Math.random() / 2);
      this.#turn("lost");
      await this.#rest();
    }
  }

  /** Read until it breaks off; why it did. */
  async #read(signal) {
    const silent = new AbortController();
    let watch = setTimeout(() => silent.abort(), SILENCE_MS);
    try {
      const answer = await ask("/pipeline/events", { signal: AbortSignal.any([signal, silent.signal]) });
      for await (const { event, data } of events(answer.body)) {
        clearTimeout(watch);
        watch = setTimeout(() => silent.abort(), SILENCE_MS);
        if (event === "pipeline") this.#take(JSON.parse(data));
        if (event === "hour") this.hour.take(JSON.parse(data));
      }
      return new Problem(0, "Connection lost", "The balance service ended the stream of readings.");
    } catch (error) {
      if (error instanceof Problem) return error;
      return new Problem(
        0,
        "Connection lost",
        silent.signal.aborted ? "No reading came for some seconds." : "The stream of readings was cut off.",
      );
    } finally {
      clearTimeout(watch);
    }
  }

  #take(reading) {
    // The same reading again is no newer for having been sent again.
    if (reading.at !== this.reading?.at) this.#came = performance.now();
    this.reading = completed(reading, this.reading);
    this.recent.note(this.reading);
    this.#turn("live");
  }

  #rest() {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, Math.max(0, this.#retryAt - performance.now()));
    });
  }

  #turn(state) {
    this.state = state;
    if (state === "live") this.problem = null;
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
