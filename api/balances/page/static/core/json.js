// JSON as people read it. What turns the direction of text, or can't be seen, is shown as its code.

import { UNSEEN } from "./unseen.js";

/** The value in lines, two spaces to each level. */
export const pretty = (value) =>
  JSON.stringify(value, null, 2)
    .split("\n")
    .map((line) => line.split(UNSEEN).map(escaped).join(""))
    .join("\n");

/** Every second part is one character that is unseen. */
const escaped = (part, n) => (n % 2 ? `\\u${part.charCodeAt(0).toString(16).padStart(4, "0")}` : part);
