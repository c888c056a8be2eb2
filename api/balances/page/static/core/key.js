// The API key: kept for this tab alone (sessionStorage), sent as a header, forgotten on demand.

const NAME = "bank.key";
const changed = new EventTarget();

/** The key, or null. */
export const key = () => sessionStorage.getItem(NAME);

/** Use this key from now on. */
export function keep(given) {
  sessionStorage.setItem(NAME, given);
  changed.dispatchEvent(new Event("change"));
}

/** Use none. */
export function forget() {
  sessionStorage.removeItem(NAME);
  changed.dispatchEvent(new Event("change"));
}

/** Call `heard` whenever the key is another one. */
export const onChange = (heard) => changed.addEventListener("change", heard);
