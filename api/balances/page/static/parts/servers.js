// The four servers: up, slow, silent or down, and what is known about it.

import { h } from "../core/dom.js";
import { serverName } from "../core/troubles.js";
import { badge } from "./figures.js";
import { explained } from "./terms.js";

const DOES = { mongodb: "events", nats: "the stream", redis: "leases", elasticsearch: "the projection" };

export const TONES = { up: "good", slow: "warn", silent: "bad", down: "bad" };

/** How a state is told. */
export const stateOf = ({ state }) => badge(TONES[state], state === "silent" ? "no answer" : state);

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
        stateOf(each),
        each.detail && h("p", { class: "dim" }, each.detail),
      ),
    ),
  );
