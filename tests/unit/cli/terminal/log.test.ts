import { expect, test } from "bun:test";
import { describeRecord } from "../../../../src/cli/terminal/log.ts";

const HEAD = { level: "info", time: "2026-11-26T09:00:00.000Z", program: "blacktree" };

test("a record is its message and its fields, without JSON", () => {
  const record = { ...HEAD, port: 8080, name: "a b", plain: "x-1", missing: null, msg: "listens" };
  expect(describeRecord(record)).toBe('listens port=8080 name="a b" plain=x-1 missing=null');
});

test("of an error only the message is shown", () => {
  const err = { type: "Error", message: "it broke", stack: "Error: it broke\n    at here" };
  expect(describeRecord({ ...HEAD, err, msg: "failed" })).toBe('failed err="it broke"');
});

test("a long value is cut", () => {
  expect(describeRecord({ ...HEAD, text: "x".repeat(1000), msg: "long" })).toBe(
    `long text=${"x".repeat(400)}…`,
  );
});

test("characters that a terminal does not show are visible", () => {
  const record = { ...HEAD, branch: "a\u202eb", path: "a \u009b2J", msg: "x\u200b" };
  expect(describeRecord(record)).toBe('x<U+200B> branch=a<U+202E>b path="a <U+009B>2J"');
});
