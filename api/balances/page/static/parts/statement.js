// An account's statement: what moved, with the balance after each entry; in pages, of all kinds or one.

import { get, path } from "../core/api.js";
import { h } from "../core/dom.js";
import { signed } from "../core/format.js";
import { address } from "../core/router.js";
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

/** @param {string} base the account's path @param {() => void} changed called after every reading */
export function statement(base, changed, signal) {
  let kind = "";
  const ask = (after, stop) =>
    get(path(`${base}/statement`, { kind, limit: LIMIT, starting_after: after }), { signal: stop });
  const list = new PagedList("the statement", ask, changed, signal);
  const choose = (event) => {
    kind = event.target.value;
    list.restart();
  };
  const entries = (found) => table("Statement", COLUMNS, found.map(row), "No entry is of that kind.");
  return { refresh: list.refresh, shown: () => [chooser(choose), list.shown(entries)] };
}

const chooser = (choose) =>
  h(
    "p",
    { class: "field" },
    h("label", { for: "kind" }, "Kind"),
    h(
      "select",
      { id: "kind", onchange: choose },
      h("option", { value: "" }, "All"),
      Object.entries(KINDS).map(([value, name]) => h("option", { value }, name)),
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
