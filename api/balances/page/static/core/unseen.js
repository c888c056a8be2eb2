// Characters that show nothing, or turn the direction of text: wherever others' words are shown, they are marked.

/** Those of terminals and lines, of the direction of text, and some that show nothing; halves of characters too. */
export const UNSEEN =
  /([\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff])/u;
