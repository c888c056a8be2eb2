// Elements as functions' values, by Preact: `h("a", { href: "#/", key: "x", onclick: f }, "text", other)`. Text goes
// in as text, so no data is ever parsed as HTML; `render(vnodes, place)` touches nothing that is as it should be.

import { Component, h, options, render } from "../vendor/preact/preact.mjs";

export { Component, h, render };

// A key can be seen on its element: tests and people find by it what the element is about.
options.vnode = ({ type, key, props }) => {
  if (typeof type === "string" && key != null) props["data-key"] = key;
};

/** The element with this id, which the page has from the beginning. */
export const byId = (id) => document.getElementById(id);

/** A part of a view, under a heading. */
export const section = (id, name, ...content) =>
  h("section", { "aria-labelledby": id }, h("h2", { id }, name), content);

/** Text for those who hear the page and don't see it. */
export const heard = (text) => h("span", { class: "heard" }, text);
