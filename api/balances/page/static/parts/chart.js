// uPlot in the page's colours: as wide as its place, and drawn anew when light turns to dark.

import { Component, h } from "../core/dom.js";
import uPlot from "../vendor/uplot/uPlot.esm.js";

const HEIGHT = 220;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the style sheet by name, such as `--line`. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart of `data`, uPlot's columns; null while there is none. `options` makes uPlot's options anew for each colour
 * scheme; other properties are the element's. Where the style sheet gives it no room nothing is drawn.
 */
export class Chart extends Component {
  #place = null;
  #plot = null;
  #size = new ResizeObserver(() => (this.#plot ? this.#plot.setSize(this.#room()) : this.#make()));
  #make = () => {
    const { data, options } = this.props;
    this.#plot?.destroy();
    const seen = data && this.#place.clientWidth > 0;
    this.#plot = seen ? new uPlot({ ...base(), ...options(), ...this.#room() }, data, this.#place) : null;
  };

  componentDidMount() {
    this.#size.observe(this.#place);
    dark.addEventListener("change", this.#make);
    this.#make();
  }

  componentDidUpdate({ data: before }) {
    const { data } = this.props;
    if (data === before) return;
    if (this.#plot && data?.length === before.length) this.#plot.setData(data);
    else this.#make();
  }

  componentWillUnmount() {
    this.#size.disconnect();
    dark.removeEventListener("change", this.#make);
    this.#plot?.destroy();
  }

  #room() {
    const { paddingLeft, paddingRight } = getComputedStyle(this.#place);
    const width = this.#place.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return { width, height: this.props.height ?? HEIGHT };
  }

  render({ data, options, height, ...attributes }) {
    return h("div", { ...attributes, ref: (element) => (this.#place = element) });
  }
}

/** A chart in a frame; `words` tell what it shows to those who don't see it. */
export const plot = (words, data, options, soundness = "") =>
  h(Chart, { class: `plot ${soundness}`, role: "img", "aria-label": words, data, options });

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
];

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Steps of an axis of times, none below a second; months and years are uPlot's. */
export const WHOLE_SECONDS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((each) => each * MINUTE),
  ...[1, 2, 3, 4, 6, 8, 12].map((each) => each * HOUR),
  ...[1, 2, 3, 4, 5, 7, 10, 15, 30, 60, 90, 120, 180].map((each) => each * DAY),
  ...[1, 2, 5, 10, 25, 50, 100].map((each) => each * 365 * DAY),
];

/** Steps of an axis of whole units. */
export const WHOLE = Array.from({ length: 17 }, (_, n) => [1, 2, 5].map((each) => each * 10 ** n)).flat();

export const { bars, stepped } = uPlot.paths;
