// A reading as the page needs it. A service of an older release leaves parts out: those are unknown. Pure.

const UNTOLD = "The balance service is of an older release, which does not tell";

const UNKNOWN = {
  commands: { rate: null, outcomes: {}, p50_ms: null, p99_ms: null, unknown: UNTOLD },
  instances: [],
  instances_unknown: UNTOLD,
};

/**
 * The reading with all its parts; `last_parked` of a projection is how many were parked when that was last known.
 * @param {import("./shapes.js").Pipeline} reading as it came
 * @param {import("./shapes.js").Pipeline | null} before the one before it
 */
export const completed = (reading, before) => ({
  ...UNKNOWN,
  ...reading,
  servers: reading.servers.map((each) => ({ state: each.up ? "up" : "down", ...each })),
  projected: reading.projected.map((each) => ({
    ...each,
    last_parked: each.parked ?? of(before, each.projection)?.last_parked ?? null,
  })),
});

const of = (reading, projection) => reading?.projected.find((each) => each.projection === projection);
