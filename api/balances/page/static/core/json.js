// JSON as people read it. What turns the direction of text, or can't be seen, is shown as its code.

const UNSEEN = /[\u0080-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The value in lines, two spaces to each level. */
export const pretty = (value) =>
  JSON.stringify(value, null, 2).replace(UNSEEN, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
