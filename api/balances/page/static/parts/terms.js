// What the words of the field mean here: a "?" beside each, with two sentences and where to read on.

import { byId, h, render } from "../core/dom.js";
import { THING } from "../core/names.js";

/** By the word as the page writes it: what it is called, what it means, and the page of docs/ about it. */
const TERMS = {
  Slot: [
    "slot",
    `A number from 0 to 1023, a hash of the ${THING}'s id, that never changes. A partition owns a range of slots, so the number of partitions can change while each ${THING} keeps its slot.`,
    "repartition.md",
  ],
  Epoch: [
    "epoch",
    "A number that rises each time a worker takes over the partition. What an earlier owner writes too late has a lower epoch and is refused, so two owners never overwrite each other.",
    "architecture.md",
  ],
  leases: [
    "lease",
    "A worker's claim to a partition in Redis, which it renews all the time. When the worker dies its lease runs out after some seconds, and another worker takes over.",
    "architecture.md",
  ],
  Position: [
    "checkpoint",
    "All events of the partition up to this sequence of the stream are in the projection. The checkpoint is stored beside the documents, and the partition's next owner goes on after it.",
    "architecture.md",
  ],
  Parked: [
    "parked",
    `One event of the ${THING} can't be applied, so its later events wait in the event store, in order. All other ${THING}s go on, and a retry applies what waits.`,
    "parking.md",
  ],
  folded: [
    "fold",
    `The state after an event is made of the state before it and of the event, by a function that looks at nothing else. So the events alone tell every state that the ${THING} ever had, and whatever else is stored of it can be made again.`,
    "architecture.md",
  ],
  "Next generation": [
    "generation",
    "A complete index of the projection, with a number. A rebuild fills the next generation beside the live one, and readers change to it at once when it is complete.",
    "rebuild.md",
  ],
};

/** A word as it is `shown`, and a "?" if it is explained here. */
export const explained = (word, shown = word) => [shown, TERMS[word] && mark(TERMS[word])];

const mark = ([term, words, page]) =>
  h(
    "button",
    {
      type: "button",
      class: "term",
      "aria-label": `What does ${term} mean?`,
      onclick: () => show(term, words, page),
    },
    "?",
  );

function show(term, words, page) {
  render(
    [
      h("h2", { id: "term-title" }, term[0].toUpperCase() + term.slice(1)),
      h("p", null, words),
      h("p", { class: "dim" }, "Read on in ", h("code", null, `docs/${page}`), "."),
      h("button", { type: "button", autofocus: true, onclick: () => byId("term").close() }, "Close"),
    ],
    byId("term"),
  );
  byId("term").showModal();
}
