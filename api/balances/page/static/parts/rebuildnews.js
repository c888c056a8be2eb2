// Says how a rebuild ended, whichever view is shown and whoever started it.

import { say } from "./notices.js";

const ENDS = { done: ["good", "done"], cancelled: ["warn", "cancelled"], failed: ["bad", "failed"] };

/**
 * @param {import("../core/live.js").Live} live
 * @returns {() => void} to be called at each of its changes
 */
export function rebuildNews(live) {
  let known = null;
  return () => {
    const rebuild = live.reading?.rebuild ?? null;
    const ended = known?.state === "running" && known.id === rebuild?.id && ENDS[rebuild.state];
    if (ended) say(ended[0], `The rebuild of ${rebuild.projection} is ${ended[1]}.`, meaning(rebuild));
    known = rebuild;
  };
}

function meaning({ state, kind, reason }) {
  if (reason) return reason;
  if (state === "done") return kind === "online" ? "Readers see the new generation." : "";
  return kind === "online" ? "The live generation goes on being read." : "";
}
