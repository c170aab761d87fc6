import { expect, test } from "bun:test";
import { freePort } from "../../../support/machine/free-port.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

test("waitFor returns the condition's first truthy result", async () => {
  let asked = 0;
  const answer = await waitFor(
    () => {
      asked += 1;
      if (asked === 1) throw new Error("not up yet");
      return asked > 2 ? "up" : undefined;
    },
    { timeoutMs: 60_000, what: "three questions", intervalMs: 1 },
  );
  expect(answer).toBe("up");
});

test("waitFor fails with the last error", async () => {
  const waiting = waitFor(() => Promise.reject(new Error("refused")), {
    timeoutMs: 5,
    what: "a server",
    intervalMs: 1,
  });
  const error: Error = await waiting.catch((reason: Error) => reason);
  expect(error.message).toBe("gave up waiting for a server after 5 ms");
  expect(error.cause).toEqual(new Error("refused"));
});

test("freePort never returns a port twice", async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, freePort));
  expect(new Set(ports).size).toBe(50);
});
