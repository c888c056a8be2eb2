// Elements as functions' values, by Preact: `h("a", { href: "#/", key: "x", onclick: f }, "text", other)`. Text goes
// in as text, so no data is ever parsed as HTML; `render(vnodes, place)` touches nothing that is as it should be.

import { Component, h, options, render as renderAll } from "../vendor/preact/preact.mjs";

export { Component, h };

// A key can be seen on its element: tests and people find by it what the element is about.
options.vnode = ({ type, key, props }) => {
  if (typeof type === "string" && key != null) props["data-key"] = key;
};

/** Bring what is in `place` up to this. When what had the focus is gone, what is nearest to it has it then. */
export function render(vnodes, place) {
  const around = ancestors(document.activeElement, place);
  renderAll(vnodes, place);
  if (!around.length || around[0].isConnected) return;
  const left = around.filter((each) => each.isConnected);
  const next = left.map((each) => each.querySelector(FOCUSABLE)).find(Boolean);
  (next ?? document.querySelector("h1"))?.focus({ preventScroll: true });
}

const FOCUSABLE = "a[href], button, input, select, summary, [tabindex]";

/** An element of `place` and those around it, up to `place`; nothing if it is elsewhere. */
const ancestors = (element, place) =>
  !place.contains(element)
    ? []
    : element === place
      ? [place]
      : [element, ...ancestors(element.parentElement, place)];

/** The element with this id, which the page has from the beginning. */
export const byId = (id) => document.getElementById(id);

/** A part of a view, under a heading. */
export const section = (id, name, ...content) =>
  h("section", { "aria-labelledby": id }, h("h2", { id }, name), content);

/** Text for those who hear the page and don't see it. */
export const heard = (text) => h("span", { class: "heard" }, text);
