// Sends a command to an account, and goes on to its trace.

import { COMMANDS } from "../core/commands.js";
import { h, render } from "../core/dom.js";
import { address } from "../core/router.js";
import { CommandForm, commandsFor } from "../parts/command.js";

export const title = "Send a command";

const LEAD =
  "The account service decides each command by the account's events, and stores what comes of it as one more event. When it has, you see how that event goes on to where balances are read.";

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { signal, route, who }) {
  const mine = commandsFor(who());
  const chosen = route.id ?? mine[0];
  if (!mine.includes(chosen)) return render(notTheirs(who(), chosen), place);
  const given = route.query.get("account") ?? "";
  const first = { id: given, from: given, hold: route.query.get("hold") ?? "" };
  const draw = () => render([h("p", { class: "lead" }, LEAD), kinds(mine, chosen, given), form.shown()], place);
  const form = new CommandForm(chosen, first, who(), draw, signal);
  draw();
  form.suggest();
}

const kinds = (mine, chosen, account) =>
  h(
    "nav",
    { "aria-label": "Commands" },
    h(
      "ul",
      { class: "choice wraps" },
      mine.map((each) =>
        h(
          "li",
          { key: each },
          h(
            "a",
            { href: address("command", each, { account }), "aria-current": each === chosen ? "page" : null },
            COMMANDS[each].name,
          ),
        ),
      ),
    ),
  );

const notTheirs = (who, chosen) =>
  h(
    "p",
    { class: "box" },
    COMMANDS[chosen] || !chosen
      ? `This takes a teller's key. Yours is a ${who?.role}'s.`
      : "There is no such command.",
  );
