// How a trace is asked for: as little of the event store is read as will do, and not faster than it answers. Pure.

const AGAIN_MS = 700;
/** The place of the stage at which the stream has the event. */
const AT_STREAM = 2;
const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i;

/** Milliseconds until the next question, after one that took so many. */
export const pauseAfter = (took) => Math.max(AGAIN_MS, 2 * took);

/**
 * Whether the stages of a projection were over before anybody noted when, so their times will never be known.
 * @param {{at: string | null}[]} stages of one projection @param {string | null} since when it is noted
 */
export function unnoted(stages, since) {
  const stream = stages[AT_STREAM]?.at;
  return Boolean(since && stream && stream < since && stages.slice(AT_STREAM + 1).every(({ at }) => at === null));
}

/**
 * The trace. An id that has its time in it needs no account, whose history may be long: that is read only when no
 * event was found near that time.
 * @template T
 * @param {(account: string | null) => Promise<T>} ask
 * @param {string | null} account one of the command, if it is known
 */
export async function traced(id, account, ask) {
  if (!account || !ULID.test(id)) return ask(account);
  try {
    return await ask(null);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return ask(account);
  }
}
