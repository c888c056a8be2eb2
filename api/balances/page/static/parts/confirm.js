// Asks before something is done. The dialog is the browser's own: focus stays within, Escape is no.

import { h } from "../core/dom.js";

/**
 * Whether the reader wants it.
 * @param {{title: string, text: string | unknown[], yes: string, no?: string, harm?: boolean}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, yes, no = "Leave it", harm = false }) {
  return new Promise((resolve) => {
    const answer = (value) => () => dialog.close(value);
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text" },
      h("h2", { id: "confirm-title" }, title),
      h(
        "div",
        { id: "confirm-text" },
        [text].flat().map((each) => (each instanceof Node ? each : h("p", null, each))),
      ),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", autofocus: true, onclick: answer("") }, no),
        h("button", { type: "button", class: harm ? "harm" : "main", onclick: answer("yes") }, yes),
      ),
    );
    dialog.onclose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    };
    document.body.append(dialog);
    dialog.showModal();
  });
}
