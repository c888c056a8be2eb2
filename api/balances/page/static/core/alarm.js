// How the bank fares, where a tab shows it that is not in front: in its title and its icon.

import { troubles } from "./troubles.js";

const MARKS = { good: "", warn: "(!) ", bad: "(‼) " };

const ICON = document.querySelector("link[rel=icon]");
const ICONS = { good: ICON.href, warn: "/ui/icon-warn.svg", bad: "/ui/icon-bad.svg" };

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
  ICON.href = ICONS[now];
  mark();
}

/** The worst of what is wrong. */
export function levelOf(live) {
  if (live.state === "lost") return "bad";
  const found = live.reading ? troubles(live.reading) : [];
  return found.some((each) => each.bad) ? "bad" : found.length ? "warn" : "good";
}

const mark = () => (document.title = MARKS[level] + words);
