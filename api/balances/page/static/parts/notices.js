// Outcomes of what somebody did, at the foot of the page: said once, and there until dismissed.

import { byId, h, render } from "../core/dom.js";

const MOST = 4;
const SHOWN_MS = 20_000;

/** The worst first, and of those the newest. */
const TONES = ["bad", "warn", "good"];

let notices = [];
let number = 0;

/** Say it. `tone` is good, warn or bad; what is bad stays until it is dismissed. */
export function say(tone, what, detail = "") {
  const notice = { key: (number += 1), tone, what, detail };
  const sorted = [notice, ...notices].sort(
    (one, other) => TONES.indexOf(one.tone) - TONES.indexOf(other.tone),
  );
  show(sorted.slice(0, MOST));
  if (tone !== "bad") setTimeout(() => dismiss(notice), SHOWN_MS);
}

const dismiss = (notice) => show(notices.filter((each) => each !== notice));

function show(those) {
  notices = those;
  render(notices.map(shown), byId("notices"));
}

const shown = (notice) =>
  h(
    "li",
    { class: `notice ${notice.tone}`, key: notice.key },
    h("div", null, h("strong", null, notice.what), notice.detail && h("p", null, notice.detail)),
    h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-label": `Dismiss: ${notice.what}`,
        onclick: () => dismiss(notice),
      },
      "×",
    ),
  );

/** Do it; what goes wrong is said as a notice, and null returned. */
export async function doing(what, act) {
  try {
    return await act();
  } catch (error) {
    if (error.name !== "AbortError")
      say("bad", `${what}: ${error.title ?? "it failed"}`, error.detail ?? error.message);
    return null;
  }
}
