/**
 * Names in a git repository are bytes, in any encoding. Every path and symlink target that git lists is kept as a
 * string with one character for each byte, so it compares, sorts and serves as a key exactly as its bytes do. It is no
 * text: `fileIn` makes a path for the file system of it, `shownName` a text for people.
 */
declare const bytes: unique symbol;
export type GitName = string & { readonly [bytes]: true };

/** Whole UTF-8 sequences, so that an invalid byte does not hide the valid characters around it. */
const NOT_ASCII = /[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[^\x20-\x7e]/g;
const HIDDEN_OR_INVALID = /[\p{C}\ufffd\u2028\u2029]/u;
const MAX_SHOWN_CHARS = 200;

export function fileIn(folder: string, name: GitName): Buffer {
  return Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, "latin1")]);
}

/** Bytes that are no visible UTF-8 are shown as `\xe9`. */
export function shownName(name: GitName): string {
  const text = name.replace(NOT_ASCII, (sequence) => {
    const character = Buffer.from(sequence, "latin1").toString("utf8");
    return HIDDEN_OR_INVALID.test(character) ? escaped(sequence) : character;
  });
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
}

function escaped(sequence: string): string {
  return [...sequence].map((byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`).join("");
}
