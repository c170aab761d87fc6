import { expect, test } from "bun:test";
import { RecordSplitter } from "../../../../src/worker/process/record-splitter.ts";

function recordsOf(chunks: readonly Buffer[], maxRecordBytes?: number): string[] {
  const records: string[] = [];
  const splitter = new RecordSplitter((record) => records.push(record), "\0", maxRecordBytes);
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return records;
}

test("every byte is kept, wherever the chunks end", () => {
  const names = [Buffer.from([0x80, 0xe9, 0xff]), Buffer.from("a\nb\r"), Buffer.from("é"), Buffer.from("")];
  const stream = Buffer.concat(names.map((name) => Buffer.concat([name, Buffer.from([0])])));
  const expected = names.map((name) => name.toString("latin1"));
  for (let size = 1; size <= stream.length; size++) {
    const chunks = Array.from({ length: Math.ceil(stream.length / size) }, (_, index) =>
      stream.subarray(index * size, (index + 1) * size),
    );
    expect(recordsOf(chunks)).toEqual(expected);
  }
});

test("a long record is cut, and one without its end is dropped", () => {
  expect(recordsOf([Buffer.from("12345"), Buffer.from("6\0abc\0unfinished")], 4)).toEqual(["1234", "abc"]);
});
