import { describe, expect, test } from "bun:test";
import { LineSplitter } from "../../../../src/worker/process/line-splitter.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function linesOf(chunks: readonly (string | Uint8Array)[], longestLineChars?: number): string[] {
  const lines: string[] = [];
  const assembler = new LineSplitter((line) => lines.push(line), longestLineChars);
  for (const chunk of chunks) assembler.push(typeof chunk === "string" ? bytes(chunk) : chunk);
  assembler.end();
  return lines;
}

describe("LineSplitter", () => {
  test("a newline, a carriage return, both together and the stream's end each end a line", () => {
    expect(linesOf(["a\r\nb\rc\n\nd"])).toEqual(["a", "b", "c", "", "d"]);
    expect(linesOf(["a\r"])).toEqual(["a"]);
    expect(linesOf(["a\n\r\nb\r\r"])).toEqual(["a", "", "b", ""]);
    expect(linesOf([])).toEqual([]);
  });

  test("gives the same lines wherever the chunks end", () => {
    const text = bytes("größe\r\nline 2 😀\rprogress\r\r\n\n\nthe end");
    const whole = linesOf([text]);
    expect(whole).toEqual(["größe", "line 2 😀", "progress", "", "", "", "the end"]);
    for (let first = 0; first <= text.length; first += 1) {
      for (let second = first; second <= text.length; second += 1) {
        const chunks = [text.subarray(0, first), text.subarray(first, second), text.subarray(second)];
        expect(linesOf(chunks)).toEqual(whole);
      }
    }
  });

  test("tells a line at once when it has ended", () => {
    const lines: string[] = [];
    const assembler = new LineSplitter((line) => lines.push(line));
    assembler.push(bytes("50 %\r"));
    expect(lines).toEqual(["50 %"]);
    assembler.push(bytes("\nnext"));
    expect(lines).toEqual(["50 %"]);
  });

  test("what has no end comes in parts, and all of it", () => {
    expect(linesOf(["abcdefgh", "ij\nk"], 4)).toEqual(["abcd", "efgh", "ij", "k"]);
    expect(linesOf(["abcd\nefgh\n"], 4)).toEqual(["abcd", "efgh"]);
  });

  test("no part ends within a character or a control sequence", () => {
    expect(linesOf(["abc😀d"], 4)).toEqual(["abc", "😀d"]);
    expect(linesOf(["abcdef\u001b[31mgh"], 8)).toEqual(["abcdef", "\u001b[31mgh"]);
    expect(linesOf([`${"\u001b".repeat(20)}`], 8).join("")).toBe("\u001b".repeat(20));
  });

  test("bytes that are no text do not end it", () => {
    expect(linesOf([Uint8Array.of(0x61, 0xff, 0x0a, 0xe2, 0x82)])).toEqual(["a\ufffd", "\ufffd"]);
  });
});
