// How a rebuild is started: what of, in which way; it asks before it does.

import { get } from "../core/api.js";
import { h } from "../core/dom.js";
import { confirm } from "./confirm.js";
import { doing, say } from "./notices.js";
import { explained } from "./terms.js";

const WAYS = {
  online: [
    "Next generation",
    "Builds a new index beside the live one, and puts it in its place when all of it is there. Readers see no half-built index, and no version goes back.",
  ],
  "in-place": [
    "In place",
    "Compares each document of the live index with the event store, and writes those that differ.",
  ],
};

/** @param {string[]} projections the names of those there are @param {() => void} started */
export const starter = (projections, started) =>
  h(
    "form",
    {
      class: "card",
      "aria-labelledby": "start",
      onsubmit: (event) => {
        event.preventDefault();
        ask(new FormData(event.target), started);
      },
    },
    h("h2", { id: "start" }, "Start a rebuild"),
    h(
      "p",
      { class: "field" },
      h("label", { for: "rebuild-projection" }, "Projection"),
      h(
        "select",
        { id: "rebuild-projection", name: "projection", required: true },
        projections.map((name) => h("option", { key: name, value: name }, name)),
      ),
    ),
    h("fieldset", null, h("legend", null, "Method"), Object.entries(WAYS).map(way)),
    h("button", { class: "main", "aria-disabled": projections.length ? null : "true" }, "Start…"),
  );

const way = ([value, [name, words]], n) =>
  h(
    "div",
    { class: "way" },
    h("input", { type: "radio", name: "way", id: `way-${value}`, value, defaultChecked: n === 0 }),
    h(
      "div",
      null,
      explained(name, h("label", { for: `way-${value}` }, h("strong", null, name))),
      h("p", { class: "dim" }, words),
    ),
  );

async function ask(given, started) {
  const [projection, way] = [given.get("projection"), given.get("way")];
  if (await sure(projection, way)) await start(projection, way, started);
}

const sure = (projection, way) =>
  confirm({
    title: `Rebuild ${projection}?`,
    text: [
      WAYS[way][1],
      "Commands are taken and balances read meanwhile. It takes time from the workers, MongoDB and Elasticsearch.",
    ],
    yes: "Start the rebuild",
    no: "Not now",
  });

async function start(projection, way, started) {
  const body = { in_place: way === "in-place" };
  const rebuild = await doing("The rebuild was not started", () =>
    get(`/${encodeURIComponent(projection)}/rebuild`, { method: "POST", body }),
  );
  if (rebuild) say("good", `The rebuild of ${projection} is under way.`, `Its id is ${rebuild.id}.`);
  started();
}
