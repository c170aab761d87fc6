/** Image references, URLs, resources, and what a message quotes. */
const NAMES = /(?<=failed to push )\S+|https?:\/\/\S+|\barn:\S+|'[^']*'/g;

/** What a registry or docker says of a push, without the names in it: a repository may be called `authentication`. */
export function withoutNames(words: string): string {
  return words.replace(NAMES, "…");
}
