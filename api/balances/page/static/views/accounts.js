// Accounts: all of them in pages, in an order of choice, and by search.

import { get, path } from "../core/api.js";
import { h, render } from "../core/dom.js";
import { may } from "../core/roles.js";
import { address } from "../core/router.js";
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
  let [search, sort] = [route.query.get("search") ?? "", route.query.get("sort") ?? "owner"];
  const ask = (after, stop) =>
    get(path("/", { search, sort, limit: LIMIT, starting_after: after }), { signal: stop });
  const list = new PagedList("accounts", ask, () => draw(), signal);

  function asked(given) {
    ({ search = search, sort = sort } = given);
    // The address tells what is shown, and Back leaves the list, not the last letter.
    const shown = { search, sort: sort === "owner" ? "" : sort };
    history.replaceState(null, "", address("accounts", null, shown));
    list.restart();
  }

  const rows = (accounts) => table("Accounts", COLUMNS, accounts.map(row), none(search));
  const form = tools({ search, sort }, asked);
  const draw = () => render([form, list.shown(rows)], place);
  draw();
  list.restart();
}

const none = (search) => (search ? `No account matches “${search}”.` : "There is no account yet.");

function tools({ search, sort }, asked) {
  let timer = 0;
  const typed = (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => asked({ search: event.target.value.trim() }), DEBOUNCE_MS);
  };
  return h(
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
        oninput: typed,
      }),
    ),
    h(
      "p",
      { class: "field" },
      h("label", { for: "sort" }, "Order"),
      h(
        "select",
        { id: "sort", onchange: (event) => asked({ sort: event.target.value }) },
        Object.entries(ORDERS).map(([value, name]) => h("option", { value, selected: value === sort }, name)),
      ),
    ),
  );
}

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
  h("p", null, "Your key reaches these accounts."),
  h(
    "ul",
    null,
    accounts.map((each) => h("li", null, h("a", { href: address("accounts", each) }, h("code", null, each)))),
  ),
];
