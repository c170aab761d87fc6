/**
 * Lines of a stream that comes in chunks, which may end anywhere: within a line, within `\r\n`, within a character.
 * What never ends its line comes in parts of bounded length, so one stream costs bounded memory, whatever it says.
 */

/** Well above every line that people read, and small enough for a hundred steps at once. */
export const LONGEST_LINE_CHARS = 16_384;

/** The longest control sequence of a terminal that is kept whole where a line is parted. */
const LONGEST_CONTROL_SEQUENCE_CHARS = 64;

export class LineAssembler {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #rest = "";
  /** The last line was ended by `\r`, so a `\n` right behind it belongs to that end. */
  #endedByReturn = false;

  constructor(
    /** Gets every line without its end; a carriage return ends a line too. */
    readonly onLine: (line: string) => void,
    readonly longestLineChars = LONGEST_LINE_CHARS,
  ) {}

  push(chunk: Uint8Array): void {
    this.#take(this.#decoder.decode(chunk, { stream: true }));
  }

  /** The stream has ended: what has no line's end is the last line. */
  end(): void {
    this.#take(this.#decoder.decode());
    if (this.#rest !== "") this.onLine(this.#rest);
    this.#rest = "";
  }

  #take(text: string): void {
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

/** Where the next line's end is; each of the two characters is looked for once over the whole text. */
class LineEnds {
  #newline = -1;
  #return = -1;

  constructor(readonly text: string) {}

  /** The text's length when there is none. */
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

/** Neither within a character of two code units nor within a terminal's control sequence. */
function partEnd(text: string, most: number): number {
  const sequence = text.lastIndexOf("\u001b", most);
  if (sequence > 0 && most - sequence < LONGEST_CONTROL_SEQUENCE_CHARS) return sequence;
  const isWithinPair = (text.charCodeAt(most - 1) & 0xfc00) === 0xd800;
  return isWithinPair && most > 1 ? most - 1 : most;
}
