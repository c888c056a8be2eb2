// uPlot in the page's colours: as wide as its place, and drawn anew when light turns to dark.

import { h } from "../core/dom.js";
import uPlot from "../vendor/uplot/uPlot.esm.js";

const HEIGHT = 220;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the style sheet by name, such as `--line`. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Where a chart goes; `words` tell what it shows to those who don't see it. */
export const plotPlace = (words) => h("div", { class: "plot", role: "img", "aria-label": words });

/**
 * A chart in `place` until `signal` aborts. `options` makes uPlot's options anew for each colour scheme.
 * Where the style sheet gives it no room there is none.
 * @returns {(data: (number | null)[][]) => void} shows other data
 */
export function chart(place, options, signal, height = HEIGHT) {
  let plot = null;
  let data = null;
  const make = () => {
    plot?.destroy();
    const seen = data && place.clientWidth > 0;
    plot = seen
      ? new uPlot({ ...base(), ...options(), width: place.clientWidth, height }, data, place)
      : null;
  };
  const size = new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height }));
  size.observe(place);
  dark.addEventListener("change", make, { signal });
  signal.addEventListener("abort", () => {
    size.disconnect();
    plot?.destroy();
  });
  return (given) => {
    const same = plot && given.length === data.length;
    data = given;
    if (same) plot.setData(data);
    else make();
  };
}

const base = () => ({
  tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
  cursor: { drag: { x: false, y: false }, points: { size: 7 } },
  legend: { live: true },
});

/** An axis in the page's colours. */
export const axis = (more) => ({
  stroke: colour("--dim"),
  font: "12px system-ui, sans-serif",
  grid: { stroke: colour("--faint"), width: 1 },
  ticks: { stroke: colour("--faint"), width: 1, size: 4 },
  ...more,
});

/** Times of an axis that is as fine as a second or as wide as years, in hours up to 24. */
export const TIMES = [
  [31_536_000, "{YYYY}", null, null, null, null, null, null, 1],
  [2_419_200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86_400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [0.001, "{ss}.{fff}", "\n{HH}:{mm}", null, "\n{HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
];

export const { bars, stepped } = uPlot.paths;
