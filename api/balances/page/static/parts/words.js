// Words that people wrote. They keep to themselves: whatever their direction, nothing beside them is turned, and a
// character that would turn or hide text is shown as a mark.

import { h } from "../core/dom.js";
import { UNSEEN } from "../core/unseen.js";

/** The text in parts: every second one is a control, as `U+202E`. */
export const parted = (text) =>
  String(text)
    .split(UNSEEN)
    .map((part, n) =>
      n % 2 ? `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` : part,
    );

const marked = (text) =>
  parted(text).map((part, n) =>
    n % 2 ? h("span", { class: "control", title: "a character that shows nothing" }, part) : part,
  );

/** A name or a sentence. */
export const words = (text) => h("bdi", { class: "words" }, marked(text));

/** JSON, or another text that is read character by character. */
export const code = (text, also = "") => h("code", { class: `words ${also}`.trim(), dir: "ltr" }, marked(text));
