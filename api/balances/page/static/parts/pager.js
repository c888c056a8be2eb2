// The way through pages that know only the next one. The address says which page is shown; from where one came to it
// is remembered while the page is open.

import { h } from "../core/dom.js";
import { altered, go } from "../core/router.js";

const before = new Map();

/**
 * Which page of a list a route names. A list that is not the only one of its view has a `name`.
 * @param {import("../core/router.js").Route} route
 */
export const pageOf = ({ query }, name = "") => ({
  cursor: query.get(`${name}after`) ?? "",
  number: Math.max(1, Number.parseInt(query.get(`${name}page`)) || 1),
});

/**
 * Buttons for the pages; nothing when there is but one.
 * @param {{what: string, name: string}} list
 * @param {import("../core/router.js").Route} route
 * @param {string | number | null} next the cursor of the next page
 */
export function pager({ what, name }, route, next) {
  const { cursor, number } = pageOf(route, name);
  if (cursor === "" && next === null) return null;
  const page = (after, at) =>
    altered(route, { [`${name}after`]: String(after), [`${name}page`]: at > 1 && at });
  const back = before.get(location.hash) ?? page("", 1);
  const forward = () => {
    const where = page(next, number + 1);
    before.set(where, location.hash);
    go(where);
  };
  return h(
    "nav",
    { class: "pager", "aria-label": `Pages of ${what}`, key: `pager ${what}` },
    turner(before.has(location.hash) || number <= 2 ? "Back" : "First", cursor !== "" && (() => go(back))),
    h("span", { class: "dim" }, `Page ${number}`),
    turner("Next", next !== null && forward),
  );
}

// Not `disabled`: whoever pressed it keeps the focus.
const turner = (text, turn) =>
  h("button", { type: "button", "aria-disabled": turn ? null : "true", onclick: turn || null }, text);
