// The rates of the last minutes, one for each stage, as they were read: what the small charts show.

const KEPT_SECONDS = 180;
/** What is drawn at least, while there is less. */
const LEAST_SECONDS = 30;

/** Which rate of a reading a stage shows. */
const RATES = {
  commands: (reading) => reading.stored.rate,
  store: (reading) => reading.stored.rate,
  stream: (reading) => reading.forwarded.rate,
  workers: (reading) => reading.projected[0]?.rate ?? null,
};

export class Recent {
  #readings = [];

  /** @param {import("./shapes.js").Pipeline} reading a new one */
  note(reading) {
    const at = Date.parse(reading.at) / 1000;
    if (at <= (this.#readings.at(-1)?.at ?? 0)) return;
    const rates = Object.fromEntries(Object.entries(RATES).map(([stage, rate]) => [stage, rate(reading)]));
    this.#readings.push({ at, rates });
    this.#readings = this.#readings.filter((each) => each.at > at - KEPT_SECONDS);
  }

  /** Times and rates of a stage, for a chart; null where a rate was unknown. */
  columns(stage) {
    return [this.#readings.map((each) => each.at), this.#readings.map((each) => each.rates[stage])];
  }

  /** From when to when the charts are, for all of them alike. */
  get range() {
    const last = this.#readings.at(-1)?.at ?? 0;
    return [Math.min(this.#readings[0]?.at ?? 0, last - LEAST_SECONDS), last];
  }
}
