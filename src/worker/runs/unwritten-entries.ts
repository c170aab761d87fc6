/** The last entries of a journal, which its file does not have yet, in chunks of whole entries. */

/** Entries in the memory of all journals together. */
export interface MemoryUse {
  bytes: number;
}

export interface Chunk {
  /** Where it begins in the journal. */
  readonly offset: number;
  readonly entries: Buffer;
}

interface GrowingChunk {
  readonly offset: number;
  readonly buffer: Buffer;
  length: number;
}

/** Most journals are short. */
const FIRST_CHUNK_BYTES = 4 * 1024;
const CHUNK_BYTES = 64 * 1024;

export class UnwrittenEntries {
  readonly #chunks: GrowingChunk[] = [];
  readonly #memory: MemoryUse;
  #bytes = 0;

  constructor(memory: MemoryUse) {
    this.#memory = memory;
  }

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
  first({ isLastWanted }: { readonly isLastWanted: boolean }): Chunk | undefined {
    const [chunk] = this.#chunks;
    if (!chunk || (this.#chunks.length === 1 && !isLastWanted)) return undefined;
    return { offset: chunk.offset, entries: chunk.buffer.subarray(0, chunk.length) };
  }

  dropFirst(): void {
    this.#use(-(this.#chunks.shift()?.buffer.length ?? 0));
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#use(-this.#bytes);
  }

  #chunkFor(entry: string, offset: number): GrowingChunk {
    const last = this.#chunks.at(-1);
    const left = last ? last.buffer.length - last.length : 0;
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    if (last && (entry.length * 3 <= left || Buffer.byteLength(entry) <= left)) return last;
    const grown = Math.min(CHUNK_BYTES, last ? 2 * last.buffer.length : FIRST_CHUNK_BYTES);
    const buffer = Buffer.allocUnsafeSlow(Math.max(grown, Buffer.byteLength(entry)));
    const chunk = { offset, buffer, length: 0 };
    this.#chunks.push(chunk);
    this.#use(buffer.length);
    return chunk;
  }

  #use(bytes: number): void {
    this.#bytes += bytes;
    this.#memory.bytes += bytes;
  }
}
