// A form that sends one command to an account. Its idempotency key is made once for all that is sent from it until
// something is executed, so sending it again after a lost answer can't pay twice.

import { Problem, get, path } from "../core/api.js";
import { COMMANDS, checked, faultsOf, isNumber, newKey, send } from "../core/commands.js";
import { byId, h } from "../core/dom.js";
import { whole } from "../core/format.js";
import { may } from "../core/roles.js";
import { address, go } from "../core/router.js";
import { fullTime } from "./figures.js";
import { say } from "./notices.js";
import { problemBox } from "./problems.js";
import { parted } from "./words.js";

const WALKED = "bank.walked";
const KNOWN = 25;
/** Those that are about a hold there is, and begin from it. */
const OF_HOLDS = ["capture", "void"];

/** Which commands this reader may send. */
export const commandsFor = (who) => Object.keys(COMMANDS).filter((each) => may(who, COMMANDS[each].right));

const link = (command, query) => h("a", { href: address("command", command, query) }, COMMANDS[command].name);

/** Links to the forms about an account. */
export const commandLinks = (who, id) =>
  commandsFor(who)
    .filter((each) => each !== "create" && !OF_HOLDS.includes(each))
    .map((each, n) => [n ? " · " : "", link(each, { account: id })]);

/** The holds of an account, with what can be done about each. */
export const holdLinks = (who, id, holds) =>
  holds.map((each) =>
    h(
      "p",
      { key: each.id },
      `Held: ${whole(each.money)} until `,
      fullTime(each.expires_at),
      OF_HOLDS.filter((command) => commandsFor(who).includes(command)).map((command) => [
        " · ",
        link(command, { account: id, hold: each.id }),
      ]),
    ),
  );

export class CommandForm {
  #command;
  #given;
  #who;
  #draw;
  #signal;
  #key = newKey();
  #faults = {};
  #problem = null;
  #sending = false;
  #accounts = [];

  /**
   * @param {string} command one of `COMMANDS`
   * @param {Record<string, string>} given what fields begin with
   * @param {import("../core/shapes.js").Who | null} who
   * @param {() => void} draw called after every change @param {AbortSignal} signal ends it
   */
  constructor(command, given, who, draw, signal) {
    this.#command = command;
    this.#given = given;
    this.#who = who;
    this.#draw = draw;
    this.#signal = signal;
  }

  /** Learn some accounts to choose from; without them an id can still be written. */
  async suggest() {
    try {
      const known = may(this.#who, "list")
        ? (await get(path("/", { sort: "-updated_at", limit: KNOWN }), { signal: this.#signal })).data
        : this.#who.accounts.map((id) => ({ id }));
      this.#accounts = known;
      this.#draw();
    } catch (error) {
      if (!(error instanceof Problem) && !this.#signal.aborted) throw error;
    }
  }

  shown() {
    const { name, fields } = COMMANDS[this.#command];
    return h(
      "form",
      { class: "card command", "aria-labelledby": "command-name", novalidate: true, onsubmit: this.#submit },
      h("h2", { id: "command-name" }, name),
      fields.map((each) => this.#field(each)),
      h("datalist", { id: "command-accounts" }, this.#accounts.map(choice)),
      this.#problem && problemBox(this.#problem),
      h("button", { class: "main", "aria-disabled": this.#sending ? "true" : null }, name),
    );
  }

  #field({ name, label, hint, kind }) {
    const [id, fault] = [idOf(name), this.#faults[name]];
    const about = [fault && `${id}-fault`, hint && `${id}-hint`].filter(Boolean).join(" ");
    return h(
      "p",
      { class: "field", key: name },
      h("label", { for: id }, label),
      h("input", {
        id,
        name,
        type: "text",
        defaultValue: this.#given[name] ?? "",
        autocomplete: "off",
        spellcheck: false,
        inputmode: isNumber({ kind }) ? "numeric" : null,
        list: kind === "account" && name !== "hold" ? "command-accounts" : null,
        "aria-invalid": fault ? "true" : null,
        "aria-describedby": about || null,
      }),
      hint && h("span", { class: "dim note", id: `${id}-hint` }, hint),
      fault && h("strong", { class: "fault", id: `${id}-fault` }, fault),
    );
  }

  #submit = async (event) => {
    event.preventDefault();
    if (this.#sending) return;
    const { body, faults } = checked(this.#command, Object.fromEntries(new FormData(event.target)));
    this.#turn({ faults, sending: !Object.keys(faults).length });
    if (!this.#sending) return;
    try {
      done(this.#who, this.#command, await send(this.#command, body, this.#key));
      this.#key = newKey();
      this.#turn({});
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#failed(problem, body);
    }
  };

  /** Say why beside the field that it is about, or below all. */
  #failed(problem, body) {
    const faults = faultsOf(this.#command, problem, body);
    if (problem.is("idempotency-key-reused")) {
      this.#key = newKey();
      problem = new Problem(problem.status, EXECUTED, EXECUTED_DETAIL, problem.type);
    }
    this.#turn({ faults, problem: Object.keys(faults).length ? null : problem });
  }

  /** What stands beside the fields now. The first that is wrong has the focus. */
  #turn({ faults = {}, problem = null, sending = false }) {
    this.#faults = faults;
    this.#problem = problem;
    this.#sending = sending;
    if (this.#signal.aborted) return;
    this.#draw();
    const wrong = COMMANDS[this.#command].fields.find(({ name }) => faults[name]);
    if (wrong) byId(idOf(wrong.name))?.focus();
  }
}

const EXECUTED = "What you sent before was executed";
const EXECUTED_DETAIL =
  "Its answer was lost, and then the form was changed. This was not sent: look at the account, and send it again if you want it besides.";

const idOf = (name) => `command-${name}`;

const choice = ({ id, owner }) => h("option", { key: id, value: id }, owner ? parted(owner).join("") : id);

/** Say it, and go where it is seen: the trace of the command, for who may, explained the first time. */
function done(who, command, { id, version, correlation }) {
  say("good", `${COMMANDS[command].done}.`, `It is version ${version} of ${id}.`);
  if (!may(who, "list") || !correlation) return go(address("accounts", id));
  const first = !sessionStorage.getItem(WALKED);
  sessionStorage.setItem(WALKED, "yes");
  go(address("trace", correlation, { account: id, explain: first && "yes" }));
}
