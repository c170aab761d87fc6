/**
 * Characters that a terminal or a page does not show, or that change the order in which it shows others: control and
 * format characters (zero-width, bidirectional), and the line breaks of Unicode. A log could look other than it is.
 */
const HIDDEN = /[\p{Cf}\u2028\u2029]|[^\P{Cc}\t\n]/gu;

/** Shows each as `<U+202E>`. */
export function withVisibleCharacters(text: string): string {
  return text.replaceAll(HIDDEN, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

/** As JSON's escapes, which do not change a value. */
export function toVisibleJson(value: unknown): string {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replaceAll(HIDDEN, (character) => character.split("").map(escaped).join(""));
}
