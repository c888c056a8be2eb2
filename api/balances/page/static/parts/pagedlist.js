// A list that comes in pages: what is wrong with it above, the way to other pages below.

import { h } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { Pages, pager } from "./pager.js";
import { condition, readAt, soundness } from "./problems.js";

/** @template T */
export class PagedList {
  #pages = new Pages();
  #what;
  #resource;

  /**
   * Nothing is asked for before `refresh` or `restart`.
   * @param {string} what it lists
   * @param {(cursor: string, signal: AbortSignal) => Promise<{data: T[], next?: string}>} ask
   * @param {() => void} changed called after every reading
   * @param {AbortSignal} signal ends it
   */
  constructor(what, ask, changed, signal) {
    this.#what = what;
    this.#resource = new Resource((stop) => ask(this.#pages.now, stop), changed, signal);
  }

  /** Read this page anew. */
  refresh = () => this.#resource.refresh();

  /** Read the first page. */
  restart() {
    this.#pages.reset();
    this.refresh();
  }

  /** @param {(data: T[]) => unknown} show what a page has */
  shown(show) {
    const found = this.#resource.value;
    return [
      condition(this.#resource),
      found &&
        h(
          "div",
          { class: `stack ${soundness(this.#resource)}` },
          show(found.data),
          pager(this.#what, this.#pages, found.next ?? null, this.refresh),
          readAt(this.#resource),
        ),
    ];
  }
}
