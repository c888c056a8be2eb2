// How the bank fares, where a tab shows it that is not in front: in its title and its icon.

import { troubles } from "./troubles.js";

const MARKS = { good: "", warn: "(!) ", bad: "(‼) " };

let [level, words] = ["good", document.title];

/** Name the tab after what it shows. */
export function titled(text) {
  words = text;
  mark();
}

/** @param {import("./live.js").Live} live */
export function alarm(live) {
  const now = levelOf(live);
  if (now === level) return;
  level = now;
  const icon = document.querySelector("link[rel=icon]");
  icon.href = icon.href.replace(/icon(-\w+)?\.svg/, now === "good" ? "icon.svg" : `icon-${now}.svg`);
  mark();
}

/** The worst of what is wrong. */
export function levelOf(live) {
  if (live.state === "lost") return "bad";
  const found = live.reading ? troubles(live.reading) : [];
  return found.some((each) => each.bad) ? "bad" : found.length ? "warn" : "good";
}

const mark = () => (document.title = MARKS[level] + words);
