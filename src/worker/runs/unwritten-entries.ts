/** The last entries of a journal, which its file does not have yet, in chunks of whole entries. */

interface Chunk {
  /** Where it begins in the journal. */
  readonly offset: number;
  readonly buffer: Buffer;
  length: number;
}

/** Most journals are short. */
const FIRST_CHUNK_BYTES = 1024;
const CHUNK_BYTES = 64 * 1024;

export class UnwrittenEntries {
  readonly #chunks: Chunk[] = [];
  #bytes = 0;

  /** Of memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Returns the entry's length in bytes. */
  append(entry: string, offset: number): number {
    const chunk = this.#chunkFor(entry, offset);
    const bytes = chunk.buffer.write(entry, chunk.length);
    chunk.length += bytes;
    return bytes;
  }

  /** Entries from this offset on, which is the beginning of an unwritten entry. */
  at(offset: number): Buffer {
    const chunk = this.#chunks.findLast((one) => one.offset <= offset);
    if (!chunk) throw new Error(`no unwritten entry begins at ${offset}`);
    return chunk.buffer.subarray(offset - chunk.offset, chunk.length);
  }

  /** The oldest chunk; unless `isLastWanted`, only one that no longer grows. */
  first({ isLastWanted }: { readonly isLastWanted: boolean }): Buffer | undefined {
    const [chunk] = this.#chunks;
    if (!chunk || (this.#chunks.length === 1 && !isLastWanted)) return undefined;
    return chunk.buffer.subarray(0, chunk.length);
  }

  dropFirst(): void {
    this.#bytes -= this.#chunks.shift()?.buffer.length ?? 0;
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#bytes = 0;
  }

  #chunkFor(entry: string, offset: number): Chunk {
    const last = this.#chunks.at(-1);
    const left = last ? last.buffer.length - last.length : 0;
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    if (last && (entry.length * 3 <= left || Buffer.byteLength(entry) <= left)) return last;
    const grown = Math.min(CHUNK_BYTES, last ? 2 * last.buffer.length : FIRST_CHUNK_BYTES);
    const buffer = Buffer.allocUnsafeSlow(Math.max(grown, Buffer.byteLength(entry)));
    const chunk = { offset, buffer, length: 0 };
    this.#chunks.push(chunk);
    this.#bytes += buffer.length;
    return chunk;
  }
}
