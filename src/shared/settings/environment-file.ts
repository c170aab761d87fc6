/** Reads a file of variables as systemd reads a unit's EnvironmentFile=: systemd.exec(5). */

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const COMMENT = /\s*[#;].*/y;
const KEY = /\s*([^=\n]*)(=?)/y;
const BLANKS = /[ \t\r]*/y;
const SINGLE_QUOTED = /'([^']*)'?/y;
const DOUBLE_QUOTED = /"((?:[^"\\]|\\[\s\S])*)"?/y;
/** Up to the end of the line. Quotes are quotes only at the begin of a value. */
const UNQUOTED = /((?:[^\\\s]|\\[\s\S]|[ \t\r]+(?=[^\s]))*).*/y;

export function parseEnvironmentFile(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  let at = 0;

  function next(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match;
  }

  function value(): string {
    let quoted = "";
    for (;;) {
      next(BLANKS);
      const single = next(SINGLE_QUOTED);
      const double = single ? null : next(DOUBLE_QUOTED);
      if (!single && !double) return quoted + unescaped(next(UNQUOTED)?.[1] ?? "");
      quoted += single ? single[1] : unescapedInQuotes(double?.[1] ?? "");
    }
  }

  while (at < text.length) {
    if (next(COMMENT)) continue;
    const [, key = "", equals] = next(KEY) ?? [];
    if (equals === "=") {
      const name = key.trimEnd();
      const given = value();
      if (NAME.test(name)) variables[name] = given;
    }
    // The line break.
    at += 1;
  }
  return variables;
}

function unescaped(text: string): string {
  return text.replace(/\\([\s\S])/g, (_, escaped: string) => (escaped === "\n" ? "" : escaped));
}

function unescapedInQuotes(text: string): string {
  return text.replace(/\\([\s\S])/g, (sequence, escaped: string) => {
    if (escaped === "\n") return "";
    return '"\\`$'.includes(escaped) ? escaped : sequence;
  });
}
