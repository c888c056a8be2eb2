// How far each page was scrolled, so that Back returns to where the reader was. The browser can't do it: when it
// would, what is read by request is not there yet.

const PATIENCE_MS = 5_000;

export class Scrolled {
  #tops = new Map();
  #entry;

  constructor() {
    history.scrollRestoration = "manual";
    this.#entry = this.#named();
    addEventListener("pagehide", () => history.replaceState({ ...history.state, top: scrollY }, ""));
    if (history.state.top) this.restore(history.state.top);
  }

  /** Call when the address has changed, before anything else: how far its page was scrolled, if it was there before. */
  moved() {
    this.#tops.set(this.#entry, scrollY);
    this.#entry = this.#named();
    return this.#tops.get(this.#entry);
  }

  /** Scroll there as soon as the page is long enough, unless the reader moves first. */
  restore(top) {
    const over = new AbortController();
    const reach = () => {
      scrollTo(0, top);
      if (Math.abs(scrollY - top) < 1) over.abort();
    };
    const grows = new ResizeObserver(reach);
    over.signal.addEventListener("abort", () => grows.disconnect());
    for (const act of ["wheel", "touchstart", "keydown", "pointerdown", "hashchange"])
      addEventListener(act, () => over.abort(), { signal: over.signal });
    setTimeout(() => over.abort(), PATIENCE_MS);
    grows.observe(document.body);
  }

  /** The name of this entry in the browser's history. */
  #named() {
    if (!history.state?.entry)
      history.replaceState(
        { ...history.state, entry: crypto.getRandomValues(new Uint32Array(2)).join("-") },
        "",
      );
    return history.state.entry;
  }
}
