// Which version or moment of an account is looked at, and where the list of its events begins. Pure.

/** Events of one list. */
export const LIMIT = 15;

/** Of them, those that come after the one that is looked at. */
const AFTER = LIMIT / 3;

export class Choice {
  /** Where the list begins: a version, a moment, or neither, which is now. */
  from = {};
  /** @type {number | null} the version that is looked at; null is the newest, whichever that is */
  chosen = null;
  /** Whether one goes over times, from the first event to now, or over versions. */
  byTime = false;
  /** The newest version that is known of. */
  newest = 0;
  /** When the first event was, in milliseconds; NaN while that is not known. */
  opened = NaN;

  /** @param {number | null} version to begin with */
  constructor(version) {
    if (version) this.from = { version };
  }

  get version() {
    return this.chosen ?? this.newest;
  }

  get isNow() {
    return !this.from.version && !this.from.at;
  }

  /** The account has at least that version. */
  reaches(version) {
    this.newest = Math.max(this.newest, version);
  }

  choose(version) {
    this.chosen = version >= this.newest ? null : Math.max(1, version);
  }

  /** Look at a version, of which the list may be: whether another list is needed. @param {number[]} listed */
  look(version, listed) {
    this.byTime = false;
    this.choose(version);
    if (listed.includes(this.version) && !this.from.at) return false;
    this.begin(this.version + AFTER);
    return true;
  }

  /** From this version on it can't be folded: if the newest was to be seen, look at the last one that can. Whether
   * another list is needed. @param {number | null} version @param {number[]} listed */
  stopped(version, listed) {
    return Boolean(version) && this.chosen === null && this.isNow && this.look(version - 1, listed);
  }

  /** Look at a moment, in milliseconds; before its first event there was no account. */
  lookAt(time) {
    this.byTime = true;
    // Times of events are told to a millisecond.
    this.from = { at: new Date(Math.max(time, this.opened + 1)).toISOString() };
  }

  /** Have the list begin with this version. */
  begin(version) {
    this.from = version >= this.newest ? {} : { version };
  }

  /** This list came: the newest of a moment is looked at, or of a list without the one that was. */
  took(listed) {
    if (listed.length && (this.from.at || !listed.includes(this.version))) this.choose(listed[0]);
  }
}
