// Lag and rates of the last hour, column by column, as the service sends them: all at first, then what is new.

const KEPT_SECONDS = 3600;

/** @typedef {{rate: (number | null)[], lag_seconds: (number | null)[]}} Course */

export class Hour {
  /** @type {{at: number[], commands: (number | null)[], stored: (number | null)[], forwarded: Course,
   *   projected: Record<string, Course>} | null} */
  points = null;
  #drawn = new Map();

  /** @param {NonNullable<Hour["points"]>} points later than those that are here; of others the later ones count */
  take(points) {
    this.#drawn.clear();
    const last = this.points?.at.at(-1) ?? -Infinity;
    const first = points.at.findIndex((at) => at > last);
    if (first < 0) return;
    const added = sliced(points, first);
    this.points = this.points ? recent(joined(this.points, added)) : added;
  }

  /** For a chart: times, and the seconds that the projection was behind; the same until there is more. */
  lag(projection) {
    return this.#columns(`lag ${projection}`, (points) => [points.at, of(points, projection).lag_seconds]);
  }

  /** For a chart: times, commands a second, and events a second that the projection applied. */
  rates(projection) {
    return this.#columns(`rates ${projection}`, (points) => [
      points.at,
      points.commands,
      of(points, projection).rate,
    ]);
  }

  #columns(name, make) {
    if (this.points && !this.#drawn.has(name)) this.#drawn.set(name, make(this.points));
    return this.#drawn.get(name) ?? null;
  }
}

const of = (points, projection) =>
  points.projected[projection] ?? { rate: points.at.map(() => null), lag_seconds: points.at.map(() => null) };

const recent = (points) => {
  const from = points.at.findIndex((at) => at > points.at.at(-1) - KEPT_SECONDS);
  return from > 0 ? sliced(points, from) : points;
};

/** The points from that one on. */
const sliced = (points, from) => mapped(points, (column) => column.slice(from));

function joined(one, other) {
  const nothing = one.at.map(() => null);
  const after = (before, now) => before.concat(now);
  return {
    at: after(one.at, other.at),
    commands: after(one.commands, other.commands),
    stored: after(one.stored, other.stored),
    forwarded: course(one.forwarded, other.forwarded, after),
    projected: Object.fromEntries(
      Object.entries(other.projected).map(([name, now]) => [
        name,
        course(one.projected[name] ?? { rate: nothing, lag_seconds: nothing }, now, after),
      ]),
    ),
  };
}

const course = (one, other, join) => ({
  rate: join(one.rate, other.rate),
  lag_seconds: join(one.lag_seconds, other.lag_seconds),
});

const mapped = (points, change) => ({
  at: change(points.at),
  commands: change(points.commands),
  stored: change(points.stored),
  forwarded: { rate: change(points.forwarded.rate), lag_seconds: change(points.forwarded.lag_seconds) },
  projected: Object.fromEntries(
    Object.entries(points.projected).map(([name, each]) => [
      name,
      { rate: change(each.rate), lag_seconds: change(each.lag_seconds) },
    ]),
  ),
});
