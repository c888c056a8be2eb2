// Links from one thing to another: to an account, to an event of it, to the trace of a command.

import { h } from "../core/dom.js";
import { BANK } from "../core/names.js";
import { address } from "../core/router.js";

/** To the account, where there is a view of it. */
export const accountLink = (id) => {
  const code = h("code", null, id);
  return BANK ? h("a", { href: address("accounts", id) }, code) : code;
};

/** To one event, by its account and version. */
export const eventLink = (account, version, ...words) =>
  h("a", { href: address("events", account, { version }) }, words);

/** To the trace of a command, by its correlation id and an account of it. */
export const traceLink = (correlation, account, ...words) =>
  h("a", { href: address("trace", correlation, { account }) }, words);
