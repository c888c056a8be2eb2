// The API key: kept for this tab alone (sessionStorage), sent as a header, forgotten on demand or when it is refused.

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

/**
 * The service takes this key no more, or never did: forget it, and tell who listens why. Nothing happens where
 * another one has been given meanwhile: the answer to an older request says nothing about that.
 */
export function refuse(refused, problem) {
  if (refused !== key()) return;
  sessionStorage.removeItem(NAME);
  changed.dispatchEvent(Object.assign(new Event("refused"), { problem }));
}

/** Call `heard` with the problem whenever a key is refused. */
export const onRefused = (heard) => changed.addEventListener("refused", ({ problem }) => heard(problem));

/** Call `heard` whenever the key is another one. */
export const onChange = (heard) => changed.addEventListener("change", heard);
