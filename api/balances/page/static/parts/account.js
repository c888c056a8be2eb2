// An account's document as its page shows it.

import { h } from "../core/dom.js";
import { badge, fact, figure, fullTime, money } from "./figures.js";
import { words } from "./words.js";

const TONES = { open: "good", frozen: "warn", closed: "plain" };

/** What there is of the document: hands may have left anything in it, or out. */
export const accountHead = (document, id) =>
  h(
    "section",
    { class: "card account", "aria-labelledby": "owner" },
    h(
      "header",
      { class: "split" },
      h(
        "div",
        null,
        h("h2", { id: "owner" }, words(document.owner ?? "Owner unknown")),
        h("code", { class: "dim" }, id),
      ),
      badge(TONES[document.status] ?? "warn", document.status ?? "status unknown"),
    ),
    h("p", { class: "balance" }, money(document.balance), h("span", { class: "dim" }, " minor units")),
    h(
      "dl",
      { class: "facts" },
      fact("Version", figure(document.version)),
      fact("Slot", figure(document.slot)),
      fact("Last changed", fullTime(document.updated_at), " UTC"),
    ),
  );
