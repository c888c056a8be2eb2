// Accounts: all of them in pages, in an order of choice, and by search.

import { get, path } from "../core/api.js";
import { h, render } from "../core/dom.js";
import { may } from "../core/roles.js";
import { address, altered, go } from "../core/router.js";
import { CommandForm, commandsFor } from "../parts/command.js";
import { badge, figure, fullTime, money } from "../parts/figures.js";
import { PagedList } from "../parts/pagedlist.js";
import { table } from "../parts/tables.js";
import { words } from "../parts/words.js";

export const title = "Accounts";

const LIMIT = 25;
const DEBOUNCE_MS = 250;

const ORDERS = {
  owner: "Owner, A to Z",
  "-owner": "Owner, Z to A",
  "-balance": "Balance, highest first",
  balance: "Balance, lowest first",
  "-updated_at": "Last changed first",
  updated_at: "First changed first",
};

const COLUMNS = [
  { name: "Owner" },
  { name: "Balance", figures: true },
  { name: "Status" },
  { name: "Version", figures: true, minor: true },
  { name: "Changed", minor: true },
  { name: "Account", minor: true },
];

/** @param {HTMLElement} place @param {import("../app.js").Context} context */
export function show(place, { signal, route, who }) {
  if (!may(who(), "list")) return render(ownOnly(who()), place);
  const ask = (after, stop) =>
    get(path("/", { ...asked(route), limit: LIMIT, starting_after: after }), { signal: stop });
  const list = new PagedList({ what: "accounts", by: ["search", "sort"] }, ask, route, () => draw(), signal);
  const mayOpen = commandsFor(who()).includes("create");
  const form = new CommandForm("create", {}, who(), () => draw(), signal);
  const rows = (accounts) => [
    table("Accounts", COLUMNS, accounts.map(row), none(asked(route).search)),
    mayOpen && !accounts.length && !route.query.size && form.shown(),
  ];
  // Back leaves the list, not the last letter.
  const want = (changes) =>
    signal.aborted || go(altered(route, { ...changes, after: "", page: "" }), { instead: true });
  const draw = () => render([tools(asked(route), want, mayOpen), list.shown(rows)], place);
  draw();
  list.refresh();

  return (turned) => {
    route = turned;
    list.turn(route);
  };
}

/** What the address asks for. */
const asked = ({ query }) => ({ search: query.get("search") ?? "", sort: query.get("sort") ?? "owner" });

const none = (search) => (search ? `No account matches “${search}”.` : "There is no account yet.");

const tools = ({ search, sort }, want, mayOpen) =>
  h(
    "form",
    { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
    h(
      "p",
      { class: "field grow" },
      h("label", { for: "search" }, "Search by owner or account id"),
      h("input", {
        id: "search",
        type: "search",
        defaultValue: search,
        autocomplete: "off",
        maxlength: 400, // in UTF-16 units: the service takes 200 characters
        oninput: typed((text) => want({ search: text.trim() })),
      }),
    ),
    h(
      "p",
      { class: "field" },
      h("label", { for: "sort" }, "Order"),
      h(
        "select",
        {
          id: "sort",
          onchange: ({ target }) => want({ sort: target.value === "owner" ? "" : target.value }),
        },
        Object.entries(ORDERS).map(([value, name]) =>
          h("option", { key: value, value, selected: value === sort }, name),
        ),
      ),
    ),
    mayOpen && h("p", { class: "field" }, h("a", { href: address("command", "create") }, "Open an account")),
  );

let timer = 0;

/** Hears what is typed, once the reader rests. */
const typed = (heard) => (event) => {
  clearTimeout(timer);
  timer = setTimeout(() => heard(event.target.value), DEBOUNCE_MS);
};

const TONES = { open: "plain", frozen: "warn", closed: "dim" };

const row = (each) => ({
  key: each.id,
  cells: [
    h("a", { href: address("accounts", each.id) }, words(each.owner ?? "Owner unknown")),
    money(each.balance),
    badge(TONES[each.status] ?? "warn", each.status ?? "unknown"),
    figure(each.version),
    fullTime(each.updated_at),
    h("code", null, each.id),
  ],
});

const ownOnly = ({ accounts }) => [
  h("p", null, accounts.length ? "Your key reaches these accounts." : "Your key reaches no account yet."),
  h(
    "ul",
    null,
    accounts.map((each) => h("li", null, h("a", { href: address("accounts", each) }, h("code", null, each)))),
  ),
];
