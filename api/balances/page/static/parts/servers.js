// The four servers: up or down, and what they were told to say about it.

import { h } from "../core/dom.js";
import { serverName } from "../core/troubles.js";
import { badge } from "./figures.js";
import { explained } from "./terms.js";

const DOES = { mongodb: "events", nats: "the stream", redis: "leases", elasticsearch: "the projection" };

/** @param {import("../core/shapes.js").Pipeline} reading */
export const servers = ({ servers: all }) =>
  h(
    "ul",
    { class: "servers" },
    all.map((each) =>
      h(
        "li",
        { class: each.up ? null : "is-down", key: each.name },
        h(
          "div",
          null,
          h("strong", null, serverName(each.name)),
          " ",
          h("span", { class: "dim" }, explained(DOES[each.name] ?? "")),
        ),
        badge(each.up ? "good" : "bad", each.up ? "up" : "down"),
        each.detail && h("p", { class: "dim" }, each.detail),
      ),
    ),
  );
