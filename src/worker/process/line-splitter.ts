/**
 * Splits a stream of chunks into lines. Chunks may end anywhere: within a line, within `\r\n`, within a character. A
 * line without an end is passed on in parts of limited length, so a stream needs a limited amount of memory.
 */

/** Longer than any line that people read, and small enough for a hundred steps at once. */
export const MAX_LINE_CHARS = 16_384;

/** Terminal control sequences up to this length are not split between parts of a line. */
const MAX_CONTROL_SEQUENCE_CHARS = 64;

export class LineSplitter {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #rest = "";
  /** The last line ended with `\r`, so a directly following `\n` belongs to the same line break. */
  #endedByReturn = false;

  constructor(
    /** Called for every line, without its line break. A carriage return also ends a line. */
    readonly onLine: (line: string) => void,
    readonly longestLineChars = MAX_LINE_CHARS,
  ) {}

  push(chunk: Uint8Array): void {
    this.#add(this.#decoder.decode(chunk, { stream: true }));
  }

  /** The stream has ended: the rest without a line break is the last line. */
  end(): void {
    this.#add(this.#decoder.decode());
    if (this.#rest !== "") this.onLine(this.#rest);
    this.#rest = "";
  }

  #add(text: string): void {
    if (text === "") return;
    let from = this.#endedByReturn && text.startsWith("\n") ? 1 : 0;
    this.#endedByReturn = false;
    const ends = new LineEnds(text);
    for (let end = ends.next(from); end < text.length; end = ends.next(from)) {
      this.#keep(text.slice(from, end));
      this.onLine(this.#rest);
      this.#rest = "";
      from = end + 1;
      if (text[end] !== "\r") continue;
      if (from === text.length) this.#endedByReturn = true;
      else if (text[from] === "\n") from += 1;
    }
    this.#keep(text.slice(from));
  }

  #keep(text: string): void {
    this.#rest += text;
    while (this.#rest.length > this.longestLineChars) {
      const end = partEnd(this.#rest, this.longestLineChars);
      this.onLine(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end);
    }
  }
}

/** Finds line ends; each of the two characters is searched for only once over the whole text. */
class LineEnds {
  #newline = -1;
  #return = -1;

  constructor(readonly text: string) {}

  /** Returns the text's length if there is none. */
  next(from: number): number {
    if (this.#newline < from) this.#newline = this.#find("\n", from);
    if (this.#return < from) this.#return = this.#find("\r", from);
    return Math.min(this.#newline, this.#return);
  }

  #find(character: string, from: number): number {
    const index = this.text.indexOf(character, from);
    return index < 0 ? this.text.length : index;
  }
}

/** Never splits a surrogate pair or a terminal control sequence. */
function partEnd(text: string, most: number): number {
  const sequence = text.lastIndexOf("\u001b", most);
  if (sequence > 0 && most - sequence < MAX_CONTROL_SEQUENCE_CHARS) return sequence;
  const isWithinPair = (text.charCodeAt(most - 1) & 0xfc00) === 0xd800;
  return isWithinPair && most > 1 ? most - 1 : most;
}
