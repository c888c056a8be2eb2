// A list that comes in pages: what is wrong with it above, the way to other pages below.

import { h } from "../core/dom.js";
import { Resource } from "../core/resource.js";
import { pageOf, pager } from "./pager.js";
import { condition, readAt, soundness } from "./problems.js";

/** @template T */
export class PagedList {
  #list;
  #route;
  #resource;

  /**
   * Nothing is asked for before `refresh`.
   * @param {{what: string, name?: string, by?: string[]}} list what it lists, its name if it shares the view with
   *   another list, and the parameters of the address that it depends on besides the page
   * @param {(cursor: string, signal: AbortSignal) => Promise<{data: T[], next?: string}>} ask
   * @param {import("../core/router.js").Route} route tells the page
   * @param {() => void} changed called after every reading
   * @param {AbortSignal} signal ends it
   */
  constructor({ what, name = "", by = [] }, ask, route, changed, signal) {
    this.#list = { what, name, by: [...by, `${name}after`] };
    this.#route = route;
    this.#resource = new Resource((stop) => ask(pageOf(this.#route, name).cursor, stop), changed, signal);
  }

  /** Read what it shows anew. */
  refresh = () => this.#resource.refresh();

  /** Read what another address of the view names, if that is another page. What is shown stays until it is there. */
  turn(route) {
    const before = this.#route;
    this.#route = route;
    if (this.#list.by.some((each) => route.query.get(each) !== before.query.get(each))) this.refresh();
  }

  /** Whether there is nothing yet, neither a page nor a reason. */
  get waiting() {
    return this.#resource.waiting;
  }

  /** Whether nothing was read, for a reason that another one has, too. */
  failedAs(problem) {
    return this.#resource.failedAs(problem);
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
          pager(this.#list, this.#route, found.next ?? null),
          readAt(this.#resource),
        ),
    ];
  }
}
