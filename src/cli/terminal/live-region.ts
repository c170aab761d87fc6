/** Lines at the bottom of a terminal that are replaced in place, below text that stays. */

export interface Terminal {
  /** As of now: it can be resized. */
  readonly columns: number;
  readonly rows: number;
  /** Writes the text and a line break. */
  print(text: string): void;
}

/** Cursor to the start of the region, which is erased. */
const erased = (rows: number) => (rows === 0 ? "" : `\u001b[${rows}A\r\u001b[J`);

export class LiveRegion {
  /** As they are on the terminal. */
  #shown: readonly string[] = [];

  constructor(
    private readonly terminal: Terminal,
    /** Formats a line that fits the terminal already. */
    private readonly style: (line: string) => string = (line) => line,
  ) {}

  /** @param texts stay above the region */
  draw(lines: readonly string[], texts: readonly string[] = []): void {
    const { columns, rows } = this.terminal;
    const kept = lines.slice(0, Math.max(0, rows - 1));
    const shown = kept.map((line) => fitted(line, columns - 1));
    const output = [...texts, ...shown.map(this.style)];
    // Only an empty region that replaces another one has nothing to print.
    if (output.length === 0 && this.#shown.length === 0) return;
    const before = erased(this.#shownRows(columns));
    this.#shown = shown;
    if (output.length > 0) this.terminal.print(`${before}${output.join("\n")}`);
    else this.terminal.print(`${before}\u001b[A`);
  }

  /** A terminal that has become narrower shows a line in several rows. */
  #shownRows(columns: number): number {
    const rowsOf = (line: string) => Math.max(1, Math.ceil(Bun.stringWidth(line) / columns));
    return this.#shown.reduce((sum, line) => sum + rowsOf(line), 0);
  }
}

/** The text in at most so many columns of a terminal. */
export function fitted(text: string, columns: number): string {
  if (Bun.stringWidth(text) <= columns) return text;
  if (columns < 1) return "";
  const cut = Bun.sliceAnsi(text, 0, columns - 1);
  // The slice contains the whole of a wide character that begins in its last column.
  const isTooWide = Bun.stringWidth(cut) > columns - 1;
  return `${isTooWide ? Bun.sliceAnsi(text, 0, columns - 2) : cut}…`;
}
