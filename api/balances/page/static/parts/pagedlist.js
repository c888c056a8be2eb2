// A list that comes in pages: what is wrong with it above, the way to other pages below.

import { h } from "../core/dom.js";
import { patch } from "../core/patch.js";
import { Resource } from "../core/resource.js";
import { Pages, pager } from "./pager.js";
import { condition, readAt, soundness } from "./problems.js";

/**
 * A list in `place` until `signal` aborts; nothing is asked for before `refresh` or `restart`.
 * @template T
 * @param {{
 *   what: string,
 *   ask: (cursor: string, signal: AbortSignal) => Promise<{data: T[], next?: string}>,
 *   show: (data: T[]) => Node,
 * }} list
 * @returns {{refresh: () => void, restart: () => void}} reads this page anew, or the first one
 */
export function pagedList(place, { what, ask, show }, signal) {
  const pages = new Pages();
  const [state, list] = [h("div"), h("div")];
  place.append(state, list);
  const resource = new Resource(
    (stop) => ask(pages.now, stop),
    () => render(),
    signal,
  );
  const refresh = () => resource.refresh();

  function render() {
    patch(state, condition(resource));
    list.className = `stack ${soundness(resource)}`;
    const found = resource.value;
    const next = found?.next ?? null;
    patch(list, found && [show(found.data), pager(what, pages, next, refresh), readAt(resource)]);
  }

  return {
    refresh,
    restart() {
      pages.reset();
      refresh();
    },
  };
}
