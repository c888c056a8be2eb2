// An account in time: any version of it, or any moment, with the state before and after each event, step by step.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { moment, whole } from "../core/format.js";
import { Resource } from "../core/resource.js";
import { altered, go } from "../core/router.js";
import { amount } from "../core/steps.js";
import { fullTime, money, unknown } from "./figures.js";
import { kindName } from "./kinds.js";
import { condition, readAt, soundness } from "./problems.js";
import { sides } from "./sides.js";
import { table } from "./tables.js";
import { explained } from "./terms.js";

const LIMIT = 15;
const DEBOUNCE_MS = 150;
const PLAY_MS = 900;
const HOUR = 3_600_000;
/** Places of the slider that goes over times. */
const MOMENTS = 1000;

const COLUMNS = [
  { name: "Version" },
  { name: "What happened" },
  { name: "Change", figures: true },
  { name: "Balance after it", figures: true },
  { name: "When" },
];

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
  /** Where the list begins: a version, a moment, or neither, which is now. */
  #from = {};
  /** @type {number | null} the version that is looked at; null is the newest, whichever that is */
  #chosen = null;
  /** The slider goes over versions, or over times from the first event to now. */
  #byTime = false;
  #newest = 0;
  #opened = NaN;
  /** @type {Step | undefined} */
  #last;
  #timer = 0;
  #telling = 0;
  #playing = 0;

  /** @param {import("../core/router.js").Route} route may name a version @param {() => void} changed */
  constructor(route, changed, signal) {
    const version = versionOf(route);
    if (version) this.#from = { version };
    this.#route = route;
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
    return this.#has(this.#newest)?.after?.holds ?? [];
  }

  /** The account has at least that version. */
  reaches(version) {
    this.#newest = Math.max(this.#newest, version);
  }

  /** The address is another one. @param {import("../core/router.js").Route} route */
  turn(route) {
    const [before, version] = [versionOf(this.#route), versionOf(route)];
    this.#route = route;
    if (version !== before && version !== this.#chosen && !this.#from.at) this.#look(version ?? this.#newest);
  }

  /** Read what is new, if the newest is looked at. */
  refresh() {
    if (!this.#resource.value || this.#isNow) this.#resource.refresh();
    else this.#changed();
  }

  get #isNow() {
    return !this.#from.version && !this.#from.at;
  }

  /** @returns {Step[]} */
  get #steps() {
    return this.#resource.value ?? [];
  }

  get #version() {
    return this.#chosen ?? this.#newest;
  }

  /** The one that is looked at; while it is read, the one before. */
  get #step() {
    return (this.#last = this.#has(this.#version) ?? this.#last ?? this.#steps[0]);
  }

  #has(version) {
    return this.#steps.find((each) => each.version === version);
  }

  #choose(version) {
    this.#chosen = version >= this.#newest ? null : Math.max(1, version);
  }

  /** The steps from where the list begins; the first time also when the account was opened, and its newest version. */
  async #read(signal) {
    const ask = async (from) => (await get(path(this.#base, from), { signal })).data;
    const [steps, [first], [last]] = await Promise.all([
      ask({ ...this.#from, limit: LIMIT }),
      Number.isNaN(this.#opened) ? ask({ version: 1, limit: 1 }) : [],
      this.#newest || this.#isNow ? [] : ask({ limit: 1 }),
    ]);
    if (first) this.#opened = Date.parse(first.event.created_at);
    this.#newest = Math.max(this.#newest, steps[0].version, last?.version ?? 0);
    return steps;
  }

  #took() {
    const [top] = this.#steps;
    const lost = this.#from.at || !this.#has(this.#version);
    if (top && !this.#resource.problem && lost) this.#choose(top.version);
    this.#changed();
  }

  /** Look at a version, and have it in the list, with some of those after it. */
  #look(version) {
    this.#byTime = false;
    this.#choose(version);
    if (this.#has(this.#version) && !this.#from.at) return this.#tell();
    this.#begin(this.#version + LIMIT / 3);
  }

  /** Look at a moment, in milliseconds. */
  #lookAt(time) {
    this.#byTime = true;
    this.#ask({ at: new Date(time).toISOString() });
    this.#tell();
  }

  /** Have the list begin with this version. */
  #begin(version) {
    this.#ask(version >= this.#newest ? {} : { version });
    this.#tell();
  }

  #ask(from) {
    this.#from = from;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#resource.refresh(), DEBOUNCE_MS);
  }

  /** The address names the version that one stays at, so it can be linked. */
  #tell() {
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => {
      const version = this.#from.at ? null : this.#chosen;
      go(altered(this.#route, { version }), { instead: true });
    }, DEBOUNCE_MS);
    this.#changed();
  }

  #play = () => {
    if (this.#playing) return this.#rest();
    if (this.#chosen === null) this.#look(1);
    this.#playing = setInterval(() => {
      if (this.#has(this.#version)) this.#look(this.#version + 1);
      if (this.#chosen === null) this.#rest();
    }, PLAY_MS);
    this.#changed();
  };

  #rest() {
    clearInterval(this.#playing);
    this.#playing = 0;
    this.#changed();
  }

  shown() {
    const step = this.#step;
    return [
      h(
        "p",
        { class: "lead dim" },
        "No balance is stored. Each state below is the state before it and one event, ",
        explained("folded"),
        "; the newest is what the account is now.",
      ),
      this.#newest > 0 && this.#controls(),
      condition(this.#resource),
      step &&
        h(
          "div",
          { class: `stack ${soundness(this.#resource)}` },
          sides(step),
          table("Events", COLUMNS, this.#steps.map((each) => this.#row(each, step))),
          this.#pages(),
          readAt(this.#resource),
        ),
    ];
  }

  #controls() {
    const version = this.#version;
    const step = (name, to, off) =>
      h("button", { type: "button", disabled: off, onclick: () => this.#look(to) }, name);
    return h(
      "div",
      { class: "card time", role: "group", "aria-label": "Which version is shown" },
      h("p", { class: "field" }, this.#byTime ? this.#timeSlider() : this.#versionSlider(version)),
      h(
        "div",
        { class: "buttons start" },
        step("First", 1, version === 1),
        step("Before", version - 1, version === 1),
        step("After", version + 1, version === this.#newest),
        step("Now", this.#newest, version === this.#newest),
        h(
          "button",
          { type: "button", disabled: this.#newest < 2, onclick: this.#play },
          this.#playing ? "Stop" : "Play",
        ),
        h(
          "button",
          { type: "button", onclick: () => this.#lookAt(Date.now() - HOUR) },
          "An hour ago",
        ),
        h(
          "button",
          {
            type: "button",
            disabled: Number.isNaN(this.#opened),
            onclick: () => {
              this.#byTime = !this.#byTime;
              this.#changed();
            },
          },
          this.#byTime ? "Go by version" : "Go by time",
        ),
      ),
    );
  }

  #versionSlider(version) {
    return [
      h("label", { for: "time" }, `Version ${whole(version)} of ${whole(this.#newest)}`),
      h("input", {
        id: "time",
        type: "range",
        min: 1,
        max: this.#newest,
        value: version,
        oninput: ({ target }) => this.#look(Number(target.value)),
      }),
    ];
  }

  #timeSlider() {
    const [opened, now] = [this.#opened, Date.now()];
    const at = this.#from.at ? Date.parse(this.#from.at) : now;
    const place = Math.round((MOMENTS * (at - opened)) / Math.max(1, now - opened));
    const time = (n) => (n >= MOMENTS ? now : opened + ((now - opened) * n) / MOMENTS);
    return [
      h("label", { for: "time" }, `As it was at ${moment(at)} UTC`),
      h("input", {
        id: "time",
        type: "range",
        min: 0,
        max: MOMENTS,
        value: Math.min(Math.max(0, place), MOMENTS),
        "aria-valuetext": moment(at),
        oninput: ({ target }) => this.#lookAt(time(Number(target.value))),
      }),
    ];
  }

  #row(each, step) {
    const chosen = each.version === step.version;
    return {
      key: `e${each.version}`,
      tone: chosen ? "chosen" : null,
      cells: [
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-pressed": String(chosen),
            "aria-label": `Show version ${each.version}`,
            onclick: () => this.#look(each.version),
          },
          whole(each.version),
        ),
        kindName(each.event.kind),
        h("span", { class: "figure" }, amount(each)),
        each.after ? money(each.after.balance) : unknown("the event, or one before it, can't be folded"),
        fullTime(each.event.created_at),
      ],
    };
  }

  #pages() {
    const [newest, oldest] = [this.#steps[0].version, this.#steps.at(-1).version];
    if (newest === this.#newest && oldest === 1) return null;
    const turn = (version) => () => {
      this.#choose(version);
      this.#begin(version);
    };
    return h(
      "nav",
      { class: "pager", "aria-label": "Pages of the events" },
      h(
        "button",
        { type: "button", disabled: newest === this.#newest, onclick: turn(newest + LIMIT) },
        "Newer",
      ),
      h("span", { class: "dim" }, `Versions ${whole(newest)} to ${whole(oldest)}`),
      h("button", { type: "button", disabled: oldest === 1, onclick: turn(oldest - 1) }, "Older"),
    );
  }
}
