// Makes what is on the page like what is wanted, and touches nothing that is like it already: so
// focus, selection and scrolling survive an update that comes every second.

const HANDLERS = ["onclick", "onsubmit", "oninput", "onchange", "onclose", "onkeydown"];

/** Marks an element whose content is somebody else's, such as a chart's. */
const OWN = "data-own";

/** Attributes that belong to the reader: whether something is unfolded. */
const READERS = new Set(["open"]);

/**
 * Make the children of `parent` like `wanted`. Children with a `data-key` are known by it.
 * @param {Element} parent
 * @param {...(Node | string | null | false | undefined | Array)} wanted
 */
export function patch(parent, ...wanted) {
  const nodes = wanted.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
  become(
    parent,
    nodes.map((each) => (each instanceof Node ? each : document.createTextNode(String(each)))),
  );
}

function become(parent, wanted) {
  const kept = new Set(wanted.map(keyOf).filter(Boolean));
  const known = new Map([...parent.children].filter(keyOf).map((each) => [keyOf(each), each]));
  let at = parent.firstChild;
  for (const next of wanted) {
    while (at && keyOf(at) && !kept.has(keyOf(at))) at = without(parent, at);
    const found = keyOf(next) ? known.get(keyOf(next)) : at;
    if (!found || !alike(found, next)) {
      parent.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else parent.insertBefore(found, at);
    adapt(found, next);
  }
  while (at) at = without(parent, at);
}

function without(parent, node) {
  const next = node.nextSibling;
  parent.removeChild(node);
  return next;
}

const keyOf = (node) => node.dataset?.key;

const alike = (one, other) =>
  one.nodeName === other.nodeName && keyOf(one) === keyOf(other) && one.type === other.type;

function adapt(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !READERS.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (next.hasAttribute(OWN)) return;
  for (const name of HANDLERS) if (old[name] !== next[name]) old[name] = next[name];
  become(old, [...next.childNodes]);
}
