/**
 * Splits a stream into the records of programs that print names, such as git with `-z`: each has one character for each
 * byte, since names need not be UTF-8.
 */
export type RecordEnd = "\0" | "\n";

/** More than the longest path of Linux, with what git prints in front of it. */
const DEFAULT_MAX_RECORD_BYTES = 16_384;

export class RecordSplitter {
  #rest = "";

  constructor(
    readonly onRecord: (record: string) => void,
    readonly recordEnd: RecordEnd = "\0",
    /** The rest of a longer record is dropped. */
    readonly maxRecordBytes = DEFAULT_MAX_RECORD_BYTES,
  ) {}

  push(chunk: Uint8Array): void {
    const records = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      .toString("latin1")
      .split(this.recordEnd);
    const rest = records.pop() ?? "";
    for (const record of records) {
      this.#keep(record);
      this.#pass();
    }
    this.#keep(rest);
  }

  /** A rest without its end is not a whole record: the program was killed. */
  end(): void {
    this.#rest = "";
  }

  #keep(text: string): void {
    this.#rest += text.slice(0, this.maxRecordBytes - this.#rest.length);
  }

  #pass(): void {
    const record = this.#rest;
    this.#rest = "";
    this.onRecord(record);
  }
}
