// A small chart in each stage: its rate in the last minutes, three at most. The rate itself is told beside it.

import { chart, colour } from "./chart.js";

const HEIGHT = 44;

/**
 * @param {HTMLElement} place where the stages are, each with an element that has `data-trend`
 * @param {import("../core/recent.js").Recent} recent
 * @param {AbortSignal} signal
 * @returns {() => void} draws what is there now
 */
export function trends(place, recent, signal) {
  const drawn = new Map();
  return () => {
    for (const stage of recent.stages) {
      const at = place.querySelector(`[data-trend=${stage}]`);
      if (at && !drawn.has(stage))
        drawn.set(
          stage,
          chart(at, () => options(recent), signal, HEIGHT),
        );
      drawn.get(stage)?.(recent.columns(stage));
    }
  };
}

const options = (recent) => ({
  legend: { show: false },
  cursor: { show: false },
  padding: [4, 0, 2, 0],
  scales: {
    x: { time: true, range: () => recent.range },
    y: { range: (_, least, most) => [0, Math.max(most ?? 0, 1)] },
  },
  axes: [{ show: false }, { show: false }],
  series: [
    {},
    {
      stroke: colour("--accent"),
      width: 1.5,
      fill: colour("--accent-faint"),
      points: { show: false },
      spanGaps: false,
    },
  ],
});
