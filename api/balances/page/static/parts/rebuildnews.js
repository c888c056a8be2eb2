// Says how a rebuild ended, whichever view is shown and whoever started it.

import { say } from "./notices.js";

const ENDS = { done: ["good", "done"], cancelled: ["warn", "cancelled"], failed: ["bad", "failed"] };

/**
 * Of what had ended before the first reading nothing is said. What ends between two readings was never seen running.
 * @param {import("../core/live.js").Live} live
 * @returns {() => void} to be called at each of its changes
 */
export function rebuildNews(live) {
  let known = null;
  return () => {
    if (!live.reading) return;
    const { rebuild } = live.reading;
    const ended = ENDS[rebuild?.state] ? rebuild.id : "";
    if (known !== null && ended && ended !== known) tell(rebuild);
    known = ended || known || "";
  };
}

function tell(rebuild) {
  const [tone, word] = ENDS[rebuild.state];
  say(tone, `The rebuild of ${rebuild.projection} is ${word}.`, meaning(rebuild));
}

function meaning({ state, kind, reason }) {
  if (reason) return reason;
  if (state === "done") return kind === "online" ? "Readers see the new generation." : "";
  return kind === "online" ? "The live generation goes on being read." : "";
}
