import { expect, test } from "bun:test";
import {
  asShortString,
  sendableOptions,
  shortened,
} from "../../../../../src/orchestrator/queue/rabbitmq/sendable.ts";

const FRAME_MAX_BYTES = 8192;
const ADDED = { "x-reason": "wrong" };

test("properties and headers that can be sent stay as they are, and added headers replace equal ones", () => {
  const headers = { list: [1, "two", null, { three: 3.5 }], "x-reason": "the sender's", at: timestamp(5) };
  expect(
    sendableOptions({ contentType: "text/plain", timestamp: 5, headers }, ADDED, FRAME_MAX_BYTES),
  ).toEqual({
    contentType: "text/plain",
    timestamp: 5,
    headers: { ...headers, ...ADDED },
  });
});

const timestamp = (value: number) => ({ "!": "timestamp", value });

test.each<[what: string, value: unknown]>([
  ["a table with the key !", { "!": "no type" }],
  ["a timestamp beyond 64 bits", timestamp(2 ** 64)],
  ["a list with such a timestamp", [timestamp(2 ** 64)]],
  ["a decimal with too many places", { "!": "decimal", value: { places: 256, digits: 1 } }],
  ["a text that fills the frame", "x".repeat(FRAME_MAX_BYTES)],
])("a header goes on as text: %s", (_what, value) => {
  const { headers } = sendableOptions({ headers: { bad: value, good: 1 } }, ADDED, FRAME_MAX_BYTES);
  expect(headers).toEqual({ good: 1, ...ADDED, "x-blacktree-unsent": expect.any(String) });
  expect(headers?.["x-blacktree-unsent"]).toStartWith('{"headers":{"bad":');
});

test("the headers of many small and large values stay below the limit of the frame", () => {
  const many = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`name-${index}`, index]));
  const { headers } = sendableOptions({ headers: many }, ADDED, FRAME_MAX_BYTES);
  const bytes = Object.entries(headers ?? {}).map(
    ([name, value]) => name.length + (typeof value === "string" ? value.length + 6 : 3),
  );
  expect(bytes.reduce((total, each) => total + each, 0)).toBeWithin(FRAME_MAX_BYTES / 4, FRAME_MAX_BYTES);
});

test("a text is a short string if it has at most 255 bytes", () => {
  expect(asShortString("é".repeat(127))).toBeString();
  expect(asShortString("é".repeat(128))).toBeUndefined();
  expect(asShortString(undefined)).toBeUndefined();
});

test("a text is shortened between two characters", () => {
  expect(shortened("aéé", 4)).toBe("aé");
  expect(shortened("aéé", 5)).toBe("aéé");
});
