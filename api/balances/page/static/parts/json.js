// JSON in a box that scrolls.

import { h } from "../core/dom.js";
import { pretty } from "../core/json.js";

export const json = (name, value) =>
  h("pre", { class: "json", tabindex: "0", role: "region", "aria-label": name }, h("code", null, pretty(value)));
