// Asks before something is done. The dialog is the browser's own: focus stays within, Escape is no.

import { h, render } from "../core/dom.js";

/**
 * Whether the reader wants it.
 * @param {{title: string, text: string | string[], yes: string, no?: string, harm?: boolean}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, yes, no = "Leave it", harm = false }) {
  const place = document.createElement("div");
  document.body.append(place);
  return new Promise((resolve) => {
    const answer = (value) => (event) => event.target.closest("dialog").close(value);
    const closed = ({ target }) => {
      render(null, place);
      place.remove();
      resolve(target.returnValue === "yes");
    };
    render(
      h(
        "dialog",
        { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text", onclose: closed },
        h("h2", { id: "confirm-title" }, title),
        h(
          "div",
          { id: "confirm-text" },
          [text].flat().map((each) => h("p", null, each)),
        ),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", autofocus: true, onclick: answer("") }, no),
          h("button", { type: "button", class: harm ? "harm" : "main", onclick: answer("yes") }, yes),
        ),
      ),
      place,
    );
    place.firstChild.showModal();
  });
}
