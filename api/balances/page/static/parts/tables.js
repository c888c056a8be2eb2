// Tables: a caption that is heard, columns of figures to the right, and a region that scrolls sideways.

import { h, heard } from "../core/dom.js";
import { explained } from "./terms.js";

/**
 * @typedef {{name: string, figures?: boolean, minor?: boolean, hidden?: boolean}} Column `minor` ones are left
 *   out where there is little room; the name of a `hidden` one is only heard.
 * @param {string} caption what the table is, for those who hear it
 * @param {Column[]} columns
 * @param {{key: string, cells: unknown[], tone?: string}[]} rows the first cell of each names the row
 * @param {string} [empty] what to say when there are none
 */
export function table(caption, columns, rows, empty = "There are none.") {
  if (!rows.length) return h("p", { class: "empty", key: caption }, empty);
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0", key: caption },
    h(
      "table",
      null,
      h("caption", { class: "heard" }, caption),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          columns.map((each) =>
            h(
              "th",
              { scope: "col", class: kind(each) },
              each.hidden ? heard(each.name) : explained(each.name),
            ),
          ),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((row) => tr(row, columns)),
      ),
    ),
  );
}

const tr = ({ key, cells, tone }, columns) =>
  h(
    "tr",
    { key: key, class: tone },
    cells.map((cell, n) =>
      n
        ? h("td", { class: kind(columns[n]) }, cell)
        : h("th", { class: kind(columns[n]), scope: "row" }, cell),
    ),
  );

const kind = ({ figures, minor }) => [figures && "num", minor && "minor"].filter(Boolean).join(" ") || null;
