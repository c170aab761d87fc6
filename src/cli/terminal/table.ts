/** Tables with headings, as wide as the terminal at most. */
import { withVisibleCharacters } from "../../shared/visible-text.ts";
import { fitted } from "./live-region.ts";

const GAP = "  ";
/** A column is made no narrower than this, or its heading. */
const MIN_COLUMN = 8;

/**
 * The first column, which identifies the row, is never cut off, and nothing is in a file or a pipe. The last column is
 * not padded.
 */
export function tableOf(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined = process.stdout.isTTY ? process.stdout.columns : undefined,
): string {
  const all = [headings, ...rows].map((row) => row.map(inOneLine));
  const wanted = headings.map((_, column) => widest(all.map((row) => row[column] ?? "")));
  const widths = columns ? narrowed(wanted, headings, columns) : wanted;
  return all
    .map((row) =>
      row
        .map((cell, column) => padded(cell, widths[column] ?? 0))
        .join(GAP)
        .trimEnd(),
    )
    .join("\n");
}

function inOneLine(cell: string): string {
  return withVisibleCharacters(cell.replaceAll(/[\t\n]/g, " "));
}

/** There can be more cells than a call may have arguments. */
function widest(cells: readonly string[]): number {
  return cells.reduce((width, cell) => Math.max(width, Bun.stringWidth(cell)), 0);
}

function padded(cell: string, width: number): string {
  const shown = fitted(cell, width);
  return shown + " ".repeat(width - Bun.stringWidth(shown));
}

/** Takes from the widest columns first. */
function narrowed(
  wanted: readonly number[],
  headings: readonly string[],
  columns: number,
): readonly number[] {
  const widths = [...wanted];
  const least = headings.map((heading) => Math.max(MIN_COLUMN, heading.length));
  const excess = () => widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1)) - columns;
  while (excess() > 0) {
    const spare = widths.map((width, column) => (column > 0 && width > (least[column] ?? 0) ? width : 0));
    const most = Math.max(...spare);
    if (most === 0) break;
    widths[spare.indexOf(most)] = most - 1;
  }
  return widths;
}
