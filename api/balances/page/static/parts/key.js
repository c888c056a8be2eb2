// Who the page is for: asks for a key where the bank wants one, says whose it is, forgets it.

import { byId, h, render } from "../core/dom.js";
import { forget, keep } from "../core/key.js";
import { HOUSE } from "../core/names.js";
import { moment } from "../core/format.js";

/**
 * Shows in the header who this is.
 * @param {import("../core/shapes.js").Who | null} who null while that is not known
 */
export function showWho(who) {
  const about = who?.keys
    ? [
        h("span", { class: "who" }, h("strong", null, who.role), " ", h("code", { class: "dim" }, who.id)),
        button("Forget key", forget),
      ]
    : h("span", { class: "who dim" }, "Keys are off");
  render(who ? about : button("Enter a key", () => askForKey()), byId("who"));
}

const button = (text, onclick) => h("button", { type: "button", class: "quiet", onclick }, text);

/** Ask for a key, saying why; it is used as soon as it is given. One dialog at a time. */
export function askForKey(problem = null) {
  const dialog = byId("key-dialog");
  const submit = (event) => {
    event.preventDefault();
    dialog.close();
    keep(byId("key-input").value.trim());
  };
  render(
    [
      h("h2", { id: "key-title" }, `This ${HOUSE} asks for a key`),
      h(
        "p",
        { id: "key-why" },
        problem ? `${problem.title}. ${problem.detail}` : `Enter an API key of this ${HOUSE}.`,
      ),
      keyForm(submit, () => dialog.close()),
    ],
    dialog,
  );
  if (!dialog.open) dialog.showModal();
  byId("key-input").focus();
}

const keyForm = (submit, leave) =>
  h(
    "form",
    { onsubmit: submit },
    h("label", { for: "key-input" }, "API key"),
    h("input", {
      id: "key-input",
      type: "password",
      autocomplete: "off",
      required: true,
      spellcheck: false,
      "aria-describedby": "key-why key-kept",
      placeholder: "bank_…",
    }),
    h(
      "p",
      { id: "key-kept", class: "dim" },
      "It is kept for this tab, and gone when the tab is closed or you forget it.",
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onclick: leave }, "Not now"),
      h("button", { class: "main" }, "Use this key"),
    ),
  );

/** When the key ends, for the foot of the page; null if it has no end. */
export const endOf = (who) => (who?.expires ? `This key ends ${moment(who.expires)} UTC.` : null);
