// Outcomes of what somebody did, at the foot of the page: said once, and there until dismissed.

import { byId, h } from "../core/dom.js";

const MOST = 4;
const SHOWN_MS = 20_000;

/** Say it. `tone` is good, warn or bad; what is bad stays until it is dismissed. */
export function say(tone, what, detail = "") {
  const list = byId("notices");
  const dismiss = () => notice.remove();
  const notice = h(
    "li",
    { class: `notice ${tone}` },
    h("div", null, h("strong", null, what), detail && h("p", null, detail)),
    h("button", { type: "button", class: "quiet", "aria-label": `Dismiss: ${what}`, onclick: dismiss }, "×"),
  );
  list.prepend(notice);
  while (list.children.length > MOST) list.lastElementChild.remove();
  if (tone !== "bad") setTimeout(dismiss, SHOWN_MS);
}

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
