import { expect, test } from "bun:test";
import { Listeners } from "../../../src/shared/listeners.ts";

test("a listener that throws is reported, and the others are still called", () => {
  const failures: unknown[] = [];
  const received: string[] = [];
  const failure = new Error("failed");
  const listeners = new Listeners<string>((error, event) => failures.push([error, event]));
  listeners.add(() => {
    throw failure;
  });
  listeners.add((event) => received.push(event));
  listeners.notify("first");
  expect(received).toEqual(["first"]);
  expect(failures).toEqual([[failure, "first"]]);
});
