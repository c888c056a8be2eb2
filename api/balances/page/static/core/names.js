// What the application calls itself and its things: the service writes it into the page.

const page = globalThis.document;

/** The title of the page, before a view adds its own. */
export const TITLE = page?.title ?? "";

/** What a stream of events is about. */
export const THING = page?.body?.dataset?.thing ?? "account";

/** Whether this is the bank, which has accounts to look at. */
export const BANK = THING === "account";

/** What it calls itself in a sentence: `this bank`. */
export const HOUSE = BANK ? "bank" : "application";
