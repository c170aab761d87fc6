/** Finds `user:password` in URLs, `scheme://user:password@host`, which must never reach a log. */

const SCHEME_END = "://";
const SCHEME_CHARACTER = /[a-z0-9+.-]/i;
const AUTHORITY_END = /[\s/'"]/g;

/** The spans of user and password in the URLs of a line, without the `@`. */
export function userinfoSpans(line: string): readonly { readonly from: number; readonly to: number }[] {
  const spans: { from: number; to: number }[] = [];
  for (let at = line.indexOf(SCHEME_END); at >= 0; at = line.indexOf(SCHEME_END, at + 1)) {
    const from = at + SCHEME_END.length;
    if (at === 0 || !SCHEME_CHARACTER.test(line[at - 1] ?? "")) continue;
    AUTHORITY_END.lastIndex = from;
    const end = AUTHORITY_END.exec(line)?.index ?? line.length;
    const to = line.lastIndexOf("@", end - 1);
    if (to > from) spans.push({ from, to });
  }
  return spans;
}
