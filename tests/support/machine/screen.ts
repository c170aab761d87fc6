/** What a terminal shows after a program's output: only the escape sequences that the CLI writes. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
const SEQUENCE = /\u001b\[(\d*)([AJm])|\r|\n|[^\u001b\r\n]+/g;

/** @param output one chunk or all of it; wide characters are not supported */
export function screenAfter(output: string, columns = 80): string[] {
  const rows: string[] = [""];
  let [row, column] = [0, 0];
  const write = (text: string) => {
    for (const character of text) {
      if (column === columns) [row, column] = [row + 1, 0];
      const line = (rows[row] ?? "").padEnd(column);
      rows[row] = `${line.slice(0, column)}${character}${line.slice(column + 1)}`;
      column += 1;
    }
  };
  for (const [text, count, command] of output.matchAll(SEQUENCE)) {
    if (command === "A") row = Math.max(0, row - Number(count || 1));
    else if (command === "J") rows.splice(row, rows.length, (rows[row] ?? "").slice(0, column));
    else if (text === "\r") column = 0;
    else if (text === "\n") [row, column] = [row + 1, 0];
    else if (command !== "m") write(text);
    rows[row] ??= "";
  }
  return Array.from(rows, (line = "") => line.trimEnd());
}
