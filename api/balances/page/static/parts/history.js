// An account in time: any version of it, or any moment, with the state before and after each event, step by step.

import { get, path } from "../core/api.js";
import { Choice, LIMIT } from "../core/choice.js";
import { h } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { altered, go } from "../core/router.js";
import { condition, readAt, soundness } from "./problems.js";
import { sides } from "./sides.js";
import { explained } from "./terms.js";
import { controls, events, pages } from "./versions.js";

const DEBOUNCE_MS = 150;
const PLAY_MS = 900;

/** @typedef {import("../core/steps.js").Step} Step */

/** The version that a route names, or null. @param {import("../core/router.js").Route} route */
function versionOf({ query }) {
  const version = Number(query.get("version"));
  return Number.isInteger(version) && version > 0 ? version : null;
}

/** One account in time. Nothing is read before `refresh`. */
export class History {
  #route;
  #base;
  #changed;
  #resource;
  #choice;
  /** @type {Step | undefined} */
  #last;
  #begun = false;
  #timer = 0;
  #telling = 0;
  #playing = 0;

  /** @param {import("../core/router.js").Route} route may name a version @param {() => void} changed */
  constructor(route, changed, signal) {
    this.#route = route;
    this.#choice = new Choice(versionOf(route));
    this.#base = `/${encodeURIComponent(route.id)}/history`;
    this.#changed = changed;
    this.#resource = new Resource((stop) => this.#read(stop), () => this.#took(), signal);
    signal.addEventListener("abort", () =>
      [this.#playing, this.#timer, this.#telling].forEach((each) => clearTimeout(each)),
    );
  }

  /** Whether nothing has been read yet. */
  get waiting() {
    return this.#resource.waiting;
  }

  /** The holds of the account as it is now, as far as they were read. */
  get holds() {
    return this.#has(this.#choice.newest)?.after?.holds ?? [];
  }

  /** The account has at least that version. */
  reaches(version) {
    this.#choice.reaches(version);
  }

  /** The address is another one. @param {import("../core/router.js").Route} route */
  turn(route) {
    const [before, version] = [versionOf(this.#route), versionOf(route)];
    const { chosen, newest, from } = this.#choice;
    this.#route = route;
    if (version !== before && version !== chosen && !from.at) this.#look(version ?? newest);
  }

  /** Read what is new, if the newest is looked at. */
  refresh() {
    if (!this.#resource.value || this.#choice.isNow) this.#resource.refresh();
    else this.#changed();
  }

  /** @returns {Step[]} */
  get #steps() {
    return this.#resource.value ?? [];
  }

  get #listed() {
    return this.#steps.map((each) => each.version);
  }

  /** The one that is looked at; while it is read, the one before. */
  get #step() {
    return (this.#last = this.#has(this.#choice.version) ?? this.#last ?? this.#steps[0]);
  }

  #has(version) {
    return this.#steps.find((each) => each.version === version);
  }

  /** The steps from where the list begins; the first time also when the account was opened, and its newest version. */
  async #read(signal) {
    const choice = this.#choice;
    const ask = async (from) => (await get(path(this.#base, from), { signal })).data;
    const [steps, [first], [last]] = await Promise.all([
      ask({ ...choice.from, limit: LIMIT }),
      Number.isNaN(choice.opened) ? ask({ version: 1, limit: 1 }) : [],
      choice.newest || choice.isNow ? [] : ask({ limit: 1 }),
    ]);
    if (first) choice.opened = Date.parse(first.event.created_at);
    choice.reaches(Math.max(steps[0].version, last?.version ?? 0));
    return steps;
  }

  #took() {
    if (!this.#resource.problem) this.#choice.took(this.#listed);
    if (!this.#begun && this.#choice.stopped(this.#steps[0]?.unreadable_from, this.#listed)) this.#ask();
    this.#begun ||= this.#steps.length > 0;
    this.#changed();
  }

  /** Look at a version, and have it in the list, with some of those after it. */
  #look(version) {
    if (this.#choice.look(version, this.#listed)) this.#ask();
    this.#tell();
  }

  #ask() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#resource.refresh(), DEBOUNCE_MS);
  }

  /** The address names the version that one stays at, so it can be linked. */
  #tell() {
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => {
      const version = this.#choice.from.at ? null : this.#choice.chosen;
      go(altered(this.#route, { version }), { instead: true });
    }, DEBOUNCE_MS);
    this.#changed();
  }

  #play() {
    if (this.#playing) return this.#rest();
    if (this.#choice.chosen === null) this.#look(1);
    this.#playing = setInterval(() => {
      if (this.#listed.includes(this.#choice.version)) this.#look(this.#choice.version + 1);
      if (this.#choice.chosen === null) this.#rest();
    }, PLAY_MS);
    this.#changed();
  }

  #rest() {
    clearInterval(this.#playing);
    this.#playing = 0;
    this.#changed();
  }

  /** @type {import("./versions.js").Actions} */
  #actions = {
    look: (version) => this.#look(version),
    lookAt: (time) => {
      this.#choice.lookAt(time);
      this.#ask();
      this.#tell();
    },
    play: () => this.#play(),
    turn: () => {
      this.#choice.byTime = !this.#choice.byTime;
      this.#changed();
    },
    begin: (version) => {
      this.#choice.choose(version);
      this.#choice.begin(version);
      this.#ask();
      this.#tell();
    },
  };

  shown() {
    const [step, steps, actions] = [this.#step, this.#steps, this.#actions];
    return [
      h(
        "p",
        { class: "lead dim" },
        "No balance is stored. Each state below is the state before it and one event, ",
        explained("folded"),
        "; the newest is what the account is now.",
      ),
      this.#choice.newest > 0 && controls(this.#choice, this.#playing > 0, actions),
      condition(this.#resource),
      step &&
        h(
          "div",
          { class: `stack ${soundness(this.#resource)}` },
          sides(step),
          events(steps, step, actions),
          pages(this.#choice, steps, actions),
          readAt(this.#resource),
        ),
    ];
  }
}
