// The way through pages that know only the next one: where one has been is remembered.

import { h } from "../core/dom.js";

/** Positions in a list that is read by cursor; `""` is its beginning. */
export class Pages {
  #before = [];
  #now = "";

  get now() {
    return this.#now;
  }

  get first() {
    return this.#before.length === 0;
  }

  get number() {
    return this.#before.length + 1;
  }

  forward(cursor) {
    this.#before.push(this.#now);
    this.#now = String(cursor);
  }

  back() {
    this.#now = this.#before.pop() ?? "";
  }

  reset() {
    this.#before = [];
    this.#now = "";
  }
}

/**
 * Buttons for the pages; nothing when there is but one.
 * @param {Pages} pages
 * @param {string | number | null} next the cursor of the next page
 * @param {() => void} turned called when another page is wanted
 */
export function pager(what, pages, next, turned) {
  if (pages.first && next === null) return null;
  const turn = (move) => () => {
    move();
    turned();
  };
  return h(
    "nav",
    { class: "pager", "aria-label": `Pages of ${what}`, key: `pager ${what}` },
    h("button", { type: "button", disabled: pages.first, onclick: turn(() => pages.back()) }, "Back"),
    h("span", { class: "dim" }, `Page ${pages.number}`),
    h(
      "button",
      { type: "button", disabled: next === null, onclick: turn(() => pages.forward(next)) },
      "Next",
    ),
  );
}
