// An account's statement: what moved, with the balance after each entry; in pages, of all kinds or one.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { signed } from "../core/format.js";
import { address, altered, go } from "../core/router.js";
import { figure, fullTime, money } from "./figures.js";
import { KINDS, kindName } from "./kinds.js";
import { PagedList } from "./pagedlist.js";
import { table } from "./tables.js";
import { words } from "./words.js";

const LIMIT = 15;

const COLUMNS = [
  { name: "Version", minor: true },
  { name: "Entry" },
  { name: "Amount", figures: true },
  { name: "Balance", figures: true },
  { name: "Other account", minor: true },
  { name: "When" },
];

/**
 * @param {string} base the account's path
 * @param {import("../core/router.js").Route} route tells the kind and the page
 * @param {() => void} changed called after every reading
 */
export function statement(base, route, changed, signal) {
  const kind = () => route.query.get("kind") ?? "";
  const ask = (after, stop) =>
    get(path(`${base}/statement`, { kind: kind(), limit: LIMIT, starting_after: after }), { signal: stop });
  const list = new PagedList({ what: "the statement", by: ["kind"] }, ask, route, changed, signal);
  const choose = ({ target }) =>
    go(altered(route, { kind: target.value, after: "", page: "" }), { instead: true });
  const entries = (found) => table("Entries", COLUMNS, found.map(row), "No entry is of that kind.");
  return {
    list,
    shown: () => [chooser(kind(), choose), list.shown(entries)],
    turn(turned) {
      route = turned;
      list.turn(route);
    },
  };
}

const chooser = (chosen, choose) =>
  h(
    "p",
    { class: "field" },
    h("label", { for: "kind" }, "Kind"),
    h(
      "select",
      { id: "kind", onchange: choose },
      Object.entries({ "": "All", ...KINDS }).map(([value, name]) =>
        h("option", { key: value, value, selected: value === chosen }, name),
      ),
    ),
  );

const row = (each) => ({
  key: `v${each.version}`,
  cells: [
    figure(each.version),
    [
      each.transfer ? `${kindName(each.kind)}, by transfer` : kindName(each.kind),
      (each.reference || each.description) &&
        h("div", { class: "dim" }, words([each.reference, each.description].filter(Boolean).join(": "))),
    ],
    each.amount === 0 ? h("span", { class: "dim" }, "0") : money(each.amount, signed),
    money(each.balance),
    each.counterparty &&
      h("a", { href: address("accounts", each.counterparty) }, h("code", null, each.counterparty)),
    fullTime(each.at),
  ],
});
