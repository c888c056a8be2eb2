// The four servers: up, slow or down, and what is known about it.

import { h } from "../core/dom.js";
import { serverName } from "../core/troubles.js";
import { badge } from "./figures.js";
import { explained } from "./terms.js";

const DOES = { mongodb: "events", nats: "the stream", redis: "leases", elasticsearch: "the projection" };

export const TONES = { up: "good", slow: "warn", down: "bad" };

/** @param {import("../core/shapes.js").Pipeline} reading */
export const servers = ({ servers: all }) =>
  h(
    "ul",
    { class: "servers" },
    all.map((each) =>
      h(
        "li",
        { class: each.state === "up" ? null : `is-${each.state}`, key: each.name },
        h(
          "div",
          null,
          h("strong", null, serverName(each.name)),
          " ",
          h("span", { class: "dim" }, explained(DOES[each.name] ?? "")),
        ),
        badge(TONES[each.state], each.state),
        each.detail && h("p", { class: "dim" }, each.detail),
      ),
    ),
  );
