import { expect, test } from "bun:test";
import { JournalIndex } from "../../../../src/worker/runs/journal-index.ts";

const ENTRY_BYTES = 1000;

/** Of entries that are all as long. */
function indexOf(entries: number): JournalIndex {
  const index = new JournalIndex();
  for (let seq = 1; seq <= entries; seq++) index.add(seq, (seq - 1) * ENTRY_BYTES);
  return index;
}

test("journal index: a short journal is read from its beginning", () => {
  for (const seq of [0, 1, 2, 50]) expect(indexOf(50).before(seq)).toEqual({ seq: 1, offset: 0 });
});

test("journal index: a position is at or before the entry, and not far from it", () => {
  const index = indexOf(10_000);
  for (const seq of [1, 65, 66, 67, 5000, 9999, 10_000]) {
    const position = index.before(seq);
    expect(position.offset).toBe((position.seq - 1) * ENTRY_BYTES);
    expect(seq - position.seq).toBeWithin(0, 67);
  }
  expect(index.before(1_000_000).seq).toBeGreaterThan(10_000 - 67);
});

test("journal index: does not grow with the journal, and its positions remain evenly spread", () => {
  const entries = 2_000_000;
  const index = indexOf(entries);
  expect(index.size).toBeLessThanOrEqual(1024);
  for (let seq = 1; seq <= entries; seq += 100_000) {
    const position = index.before(seq);
    expect(position.offset).toBe((position.seq - 1) * ENTRY_BYTES);
    expect(seq - position.seq).toBeWithin(0, entries / 400);
  }
});
