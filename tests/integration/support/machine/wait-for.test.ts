import { expect, test } from "bun:test";
import { freePort } from "../../../support/machine/free-port.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

test("gives what the condition gave at last", async () => {
  let asked = 0;
  const answer = await waitFor(
    () => {
      asked += 1;
      if (asked === 1) throw new Error("not up yet");
      return asked > 2 ? "up" : undefined;
    },
    { timeoutMs: 30_000, what: "three questions", intervalMs: 1 },
  );
  expect(answer).toBe("up");
});

test("gives up with the last reason", async () => {
  const waiting = waitFor(() => Promise.reject(new Error("refused")), {
    timeoutMs: 5,
    what: "a server",
    intervalMs: 1,
  });
  const error: Error = await waiting.catch((reason: Error) => reason);
  expect(error.message).toBe("gave up waiting for a server after 5 ms");
  expect(error.cause).toEqual(new Error("refused"));
});

test("no free port is given twice", async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, freePort));
  expect(new Set(ports).size).toBe(50);
});
