// Which view the address names: `#/accounts?search=ana`. Views can be linked, and the back button works.

/**
 * @typedef {{view: string, id: string | null, query: URLSearchParams}} Route
 */

/** The view that is shown when the address names none. */
const HOME = "overview";

/** @returns {Route} */
export function parsed(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view, id] = path.split("/");
  return { view: view || HOME, id: id ? decoded(id) : null, query: new URLSearchParams(query ?? "") };
}

/** The address of a view; parameters that are empty are left out. */
export function address(view, id = null, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const rest = given.length ? `?${new URLSearchParams(given)}` : "";
  return `#/${view}${id === null ? "" : `/${encodeURIComponent(id)}`}${rest}`;
}

/** The address of a route with other parameters. @param {Route} route */
export const altered = ({ view, id, query }, changes) =>
  address(view, id, { ...Object.fromEntries(query), ...changes });

/** Go to an address; with `instead` in the place of this one, so that Back leaves this one out. */
export function go(where, { instead = false } = {}) {
  if (where === location.hash) return;
  if (!instead) location.hash = where;
  else {
    history.replaceState(history.state, "", where);
    dispatchEvent(new Event("hashchange"));
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
