/** Journals as they are read from files and over gRPC: bytes, blocks of whole entries, entries. */
import { decodeEntry, type JournalEntry } from "../../shared/log-journal.ts";

const NEWLINE = 10;

/** Joins and cuts chunks, so that each block ends with an entry. An incomplete last entry is left out. */
export async function* wholeEntries(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      const block = bytes.subarray(0, end);
      yield rest.length > 0 ? Buffer.concat([...rest, block]) : block;
      rest = [];
    }
    if (end < bytes.length) rest.push(bytes.subarray(end));
  }
}

/** The blocks without the entries up to `afterSeq`. */
export async function* entriesAfter(blocks: AsyncIterable<Buffer>, afterSeq: number): AsyncGenerator<Buffer> {
  for await (const block of blocks) {
    const rest = afterSeq === 0 ? block : blockAfter(block, afterSeq);
    if (rest.length > 0) yield rest;
  }
}

function blockAfter(block: Buffer, afterSeq: number): Buffer {
  if (lastEntryOf(block).seq <= afterSeq) return block.subarray(block.length);
  let start = 0;
  while (start < block.length) {
    const end = block.indexOf(NEWLINE, start) + 1;
    if (decodeEntry(block.toString("utf8", start, end)).seq > afterSeq) break;
    start = end;
  }
  return block.subarray(start);
}

export function lastEntryOf(block: Buffer): JournalEntry {
  const start = block.lastIndexOf(NEWLINE, block.length - 2) + 1;
  return decodeEntry(block.toString("utf8", start));
}

/** All at once: parsing each entry alone takes longer. */
export function decodeBlock(block: Buffer): readonly JournalEntry[] {
  return JSON.parse(
    `[${block.toString("utf8", 0, block.length - 1).replaceAll("\n", ",")}]`,
  ) as JournalEntry[];
}
