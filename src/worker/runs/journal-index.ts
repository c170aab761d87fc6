/**
 * Positions of some entries of a journal, about evenly spread. Their number is limited: while a journal grows, the
 * distance between them doubles.
 */

export interface Position {
  readonly seq: number;
  /** Where the entry begins, in bytes. */
  readonly offset: number;
}

const FIRST_DISTANCE_BYTES = 64 * 1024;
const MAX_POSITIONS = 1024;

export class JournalIndex {
  #positions: Position[] = [{ seq: 1, offset: 0 }];
  #distanceBytes = FIRST_DISTANCE_BYTES;

  /** To be called for every entry, in order. */
  add(seq: number, offset: number): void {
    if (offset - (this.#positions.at(-1)?.offset ?? 0) < this.#distanceBytes) return;
    this.#positions.push({ seq, offset });
    if (this.#positions.length <= MAX_POSITIONS) return;
    this.#positions = this.#positions.filter((_, index) => index % 2 === 0);
    this.#distanceBytes *= 2;
  }

  get size(): number {
    return this.#positions.length;
  }

  /** The last known position at or before this entry. */
  before(seq: number): Position {
    let low = 0;
    let high = this.#positions.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#positions[middle]?.seq ?? 0) <= seq) low = middle;
      else high = middle - 1;
    }
    return this.#positions[low] ?? { seq: 1, offset: 0 };
  }
}
