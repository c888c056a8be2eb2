// Elements as functions' values. Text goes in as text, so no data is ever parsed as HTML.

/**
 * An element: `h("a", { href: "#/", class: "x", onclick: f }, "text", other)`.
 * Null, undefined and false are left out, of attributes and of children; lists are flattened.
 * @param {string} tag
 * @param {Record<string, unknown> | null} [attributes]
 * @param {...unknown} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) give(element, name, value);
  element.append(...children.flat(Infinity).filter(shown).map(asNode));
  return element;
}

/** Whether a child or an attribute is there at all. */
const shown = (value) => value !== null && value !== undefined && value !== false;

const asNode = (value) => (value instanceof Node ? value : String(value));

function give(element, name, value) {
  if (!shown(value)) return;
  // A handler is a property: as an attribute the page's policy would refuse it.
  if (name.startsWith("on")) element[name] = value;
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** The element with this id, which the page has from the beginning. */
export const byId = (id) => document.getElementById(id);

/** Text for those who hear the page and don't see it. */
export const heard = (text) => h("span", { class: "heard" }, text);
