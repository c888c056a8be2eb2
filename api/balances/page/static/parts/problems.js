// What went wrong with a request, and how old what is shown has become since.

import { h } from "../core/dom.js";
import { time } from "./figures.js";

/** A problem as title and detail, and a way to try again. */
export const problemBox = (problem, again = null) =>
  h(
    "div",
    { class: "box bad", role: "alert", key: "problem" },
    h(
      "p",
      null,
      h("strong", null, problem.title),
      problem.status ? h("span", { class: "dim" }, ` ${problem.status}`) : null,
    ),
    h("p", null, problem.detail),
    again && h("button", { type: "button", onclick: again }, "Try again"),
  );

/**
 * Stands above what a resource holds: nothing while it is sound, else why it is not, and of when
 * that is which is still shown.
 * @param {import("../core/resource.js").Resource<unknown>} resource
 */
export function condition(resource, again = () => resource.refresh()) {
  if (!resource.problem)
    return resource.waiting ? h("p", { class: "dim", key: "waiting" }, "Reading…") : null;
  const shown =
    resource.value &&
    h(
      "p",
      { class: "old-note" },
      "What is shown below is of ",
      time(resource.at),
      " UTC, and may be wrong by now.",
    );
  return [problemBox(resource.problem, again), shown];
}

/** The class of what a resource holds: greyed when it could not be read anew. */
export const soundness = (resource) => (resource.problem ? "is-old" : "");

/** `Read at 14:02:33 UTC`. */
export const readAt = (resource) =>
  resource.at && h("p", { class: "dim read-at" }, "Read at ", time(resource.at), " UTC");
