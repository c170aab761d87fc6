/** The patterns of lfs.fetchinclude and lfs.fetchexclude, which are similar to those of .gitignore. */

/** The patterns of a setting; undefined when it is empty. Paths have one character for each byte. */
export function pathPatterns(value: string): readonly RegExp[] | undefined {
  if (value.trim() === "") return undefined;
  return value.split(",").map((part) => pathPattern(part.trim().replace(/[/\\]$/, "")));
}

/** Matches a path, or a folder with all that is below it. A pattern without a slash matches at any depth. */
function pathPattern(pattern: string): RegExp {
  const parts = withSlashes(pattern).split("/");
  const isAnchored = parts.slice(0, parts.at(-1) === "" ? -1 : undefined).length > 1;
  const wanted = parts.filter((part) => part !== "");
  // Matches no path.
  if (wanted.length === 0) return /[^\s\S]/;
  const last = wanted.length - 1;
  const expressions = wanted.map((part, index) => {
    if (part === "**") return index === last ? ".+" : "(?:.*/)?";
    return `${partExpression(part)}${index === last ? "" : "/"}`;
  });
  return new RegExp(`^${isAnchored ? "" : "(?:.*/)?"}${expressions.join("")}(?:/.*)?$`, "s");
}

/** As in git-lfs, a backslash that escapes nothing separates folders. */
function withSlashes(pattern: string): string {
  return pattern.replace(/\\([\\[\]*?#])|\\/g, (found, escaped) => (escaped === undefined ? "/" : found));
}

/** Escaped characters, bracket expressions, wildcards, and other characters. */
const TOKEN = /\\(.)|\[([!^]?)((?:\\.|\[:\w+:\]|[^\]\\])*)\]?|(\*+)|(\?)|(.)/gs;

function partExpression(part: string): string {
  return part.replace(TOKEN, (_, escaped, negation, members, stars, one, other) => {
    if (members !== undefined) return bracketExpression(negation !== "", members);
    if (stars !== undefined) return "[^/]*";
    if (one !== undefined) return "[^/]";
    return literal(escaped ?? other);
  });
}

const CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  blank: " \\t",
  cntrl: "\\0-\\x1f\\x7f",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-\\/:-@\\[-`{-~",
  space: "\\s",
  upper: "A-Z",
  xdigit: "0-9A-Fa-f",
};

function bracketExpression(isNegated: boolean, members: string): string {
  const set = members.replace(/\[:(\w+):\]|\\(.)|(.)-(.)|(.)/gs, (_, name, escaped, first, last, other) => {
    if (name !== undefined) return CLASSES[name.toLowerCase()] ?? "";
    if (first !== undefined) return first <= last ? range(first, last) : range(last, first);
    return literal(escaped ?? other);
  });
  if (set === "") return isNegated ? "[^/]" : "[^\\s\\S]";
  return isNegated ? `[^/${set}]` : `(?!/)[${set}]`;
}

const range = (first: string, last: string) => `${literal(first)}-${literal(last)}`;

/** Also valid within brackets. */
function literal(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
