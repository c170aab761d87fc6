import { afterEach, expect, spyOn, test } from "bun:test";
import pino from "pino";
import { Availability } from "../../../src/orchestrator/availability.ts";

let availability: Availability | undefined;
let clock: { mockRestore(): void } | undefined;

afterEach(() => {
  availability?.stop();
  clock?.mockRestore();
});

test("jobs return a few seconds after the first check that finds Redis unavailable, also when the process did not run before it", async () => {
  let nowMs = 1_000_000;
  let isReady = true;
  let checks = 0;
  const calls: string[] = [];
  const component = (name: string) => ({
    pause: async () => void calls.push(`pause ${name}`),
    resume: () => void calls.push(`resume ${name}`),
  });
  const leases = {
    get isReady() {
      checks += 1;
      return isReady;
    },
  };
  availability = new Availability({
    leases,
    records: { isReady: true },
    intake: component("intake"),
    dispatcher: component("dispatcher"),
    logger: pino({ level: "silent" }),
  });
  const checked = (count: number) => {
    const target = checks + count;
    // Not `waitFor`, whose clock has stopped, too.
    return new Promise<void>((resolve) => {
      const poll = setInterval(() => {
        if (checks < target) return;
        clearInterval(poll);
        resolve();
      }, 1);
    });
  };
  clock = spyOn(performance, "now").mockImplementation(() => nowMs);
  availability.start();
  await checked(1);
  // A stall, after which the connection to Redis is made again.
  nowMs += 60_000;
  isReady = false;
  await checked(2);
  expect(calls).toEqual([]);
  nowMs += 4_000;
  await checked(1);
  expect(calls).toEqual(["pause intake", "pause dispatcher"]);
  isReady = true;
  await checked(1);
  expect(calls.slice(2)).toEqual(["resume intake", "resume dispatcher"]);
});
