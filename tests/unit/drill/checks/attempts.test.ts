import { expect, test } from "bun:test";
import { checkAttempts, misplacedRuns } from "../../../drill/checks/attempts.ts";
import {
  endedAttempts,
  isExplained,
  isOfBusyMachine,
  unexplainedLines,
} from "../../../drill/checks/explanations.ts";
import { FaultLog } from "../../../drill/checks/fault-log.ts";
import { assigned, fault, faults, launchOf, line, rulesOf, run } from "../observations.ts";

/** The log lines of a worker that misses three pings from 13 s on. */
const missedPings = (worker: string, worker_id: string) => [
  { ...line("worker listens", 0, { worker_id }), launch: launchOf(worker) },
  ...[13_000, 14_000, 15_000].map((at) => line("ping missed", at, { worker_id })),
];

const busy = (kind: "stalled" | "overloaded") =>
  new FaultLog([], ["orchestrator-1"], [{ kind, from: 12_000, until: 16_000 }]);

test("drill: attempts may overlap only while the earlier one's worker is unreachable or frozen", () => {
  const runs = [run(1, "worker-1", 0, 20_000), run(2, "worker-2", 10_000, 15_000)];
  expect(rulesOf(checkAttempts(runs, faults(), []))).toEqual(["overlap"]);
  const frozen = (target: string) => faults(fault("worker frozen, long", target, 5000, 12_000));
  expect(checkAttempts(runs, frozen("worker-1"), [])).toMatchObject({ overlaps: 1, problems: [] });
  expect(rulesOf(checkAttempts(runs, frozen("worker-2"), []))).toEqual(["overlap"]);
  const one = [run(1, "worker-1", 0, 9000), run(2, "worker-2", 10_000, 15_000)];
  expect(checkAttempts(one, faults(), [])).toMatchObject({ overlaps: 0, retried: 1, problems: [] });
});

test("drill: attempts may overlap when the machine was too busy for the pings of the earlier one's worker", () => {
  const runs = [run(1, "worker-1", 0, 20_000), run(2, "worker-2", 15_000, 18_000)];
  const problems = (worker: string, log: FaultLog) =>
    rulesOf(checkAttempts(runs, log, missedPings(worker, "one")));
  expect(problems("worker-1", faults())).toEqual(["overlap"]);
  expect(problems("worker-1", busy("overloaded"))).toEqual([]);
  expect(problems("worker-2", busy("overloaded"))).toEqual(["overlap"]);
  expect(problems("worker-2", busy("stalled"))).toEqual([]);
});

test("drill: an attempt number is used once, as long as Redis keeps its data", () => {
  const runs = [run(1, "worker-1", 0, 5000), run(1, "worker-2", 10_000, 15_000)];
  expect(rulesOf(checkAttempts(runs, faults(), []))).toEqual(["attempt number used twice"]);
  expect(rulesOf(checkAttempts(runs, faults(fault("Redis flushed", "redis", 6000, 6000)), []))).toEqual([]);
});

test("drill: a job that requires a region runs only there", () => {
  const regionOf = (worker: string) => (worker === "worker-1" ? "us-east-1" : "eu-west-1");
  const runs = [run(1, "worker-1", 0, 5000), run(2, "worker-2", 10_000, 15_000)];
  const misplaced = (worker_region: string, region_policy: "prefer" | "require") =>
    misplacedRuns({ worker_region, region_policy }, runs, regionOf);
  expect(misplaced("us-east-1", "require")).toHaveLength(1);
  expect(misplaced("us-east-1", "prefer")).toEqual([]);
  expect(misplaced("ap-south-1", "require")).toHaveLength(2);
});

const retried = (code: string) =>
  line("attempt failed; the job is tried again", 20_000, { attempt: 1, error: { code } });
const twoAttempts = [assigned(1, "worker-1", 10_000), assigned(2, "worker-2", 23_000)];

const RUNS = [run(1, "worker-1", 10_000, 20_000)];

function explained(code: string, log: FaultLog): boolean[] {
  return endedAttempts([retried(code)], twoAttempts, RUNS, log.orchestrators).map((attempt) =>
    isExplained(attempt, log),
  );
}

test("drill: a further attempt needs a fault of the worker, at that time, that explains its failure", () => {
  expect(explained("WORKER_LOST", faults())).toEqual([false]);
  expect(explained("WORKER_LOST", faults(fault("worker killed", "worker-1", 15_000, 16_000)))).toEqual([
    true,
  ]);
  expect(explained("WORKER_LOST", faults(fault("worker killed", "worker-2", 15_000, 16_000)))).toEqual([
    false,
  ]);
  expect(explained("WORKER_LOST", faults(fault("worker killed", "worker-1", 1000, 2000)))).toEqual([false]);
  expect(explained("WORKER_LOST", faults(fault("worker frozen, short", "worker-1", 15_000, 16_000)))).toEqual(
    [false],
  );
  const cut = faults(fault("worker cut off from the registry", "worker-1", 15_000, 16_000));
  expect(explained("PUSH_FAILED", cut)).toEqual([true]);
  expect(explained("WORKER_LOST", cut)).toEqual([false]);
  expect(explained("CLONE_FAILED", cut)).toEqual([false]);
});

test("drill: without a logged failure, the worker of the earlier attempt was lost", () => {
  const [ended] = endedAttempts([], twoAttempts, RUNS, []);
  expect(ended).toMatchObject({
    attempt: 1,
    code: "WORKER_LOST",
    workers: ["worker-1"],
    period: { until: 23_000 },
  });
});

test("drill: orchestrators that lose Redis explain a lost worker only if all of them lose it at one time", () => {
  const cut = (target: string, from: number) =>
    fault("orchestrator cut off from Redis", target, from, from + 2000);
  const one = cut("orchestrator-1", 12_000);
  expect(explained("WORKER_LOST", faults(one))).toEqual([false]);
  expect(explained("WORKER_LOST", faults(one, cut("orchestrator-2", 13_000)))).toEqual([true]);
  expect(explained("WORKER_LOST", faults(one, cut("orchestrator-2", 18_000)))).toEqual([false]);
});

test("drill: an attempt that no worker has started ends if its orchestrator loses the workers or the message", () => {
  const unstarted = (log: FaultLog) =>
    endedAttempts([], twoAttempts, [], []).map((ended) => isExplained(ended, log));
  const cut = (target: string) =>
    faults(fault("orchestrator cut off from the workers", target, 11_000, 13_000));
  expect(unstarted(faults())).toEqual([false]);
  expect(unstarted(cut("orchestrator-1"))).toEqual([true]);
  expect(unstarted(cut("orchestrator-2"))).toEqual([false]);
  expect(explained("WORKER_LOST", cut("orchestrator-1"))).toEqual([false]);
});

test("drill: a lost worker may be due to a machine that was too busy to answer pings", () => {
  const [lost] = endedAttempts([retried("WORKER_LOST")], twoAttempts, RUNS, []);
  if (!lost) throw new Error("no attempt has ended");
  const journal = missedPings("worker-1", "one");
  expect(isOfBusyMachine(lost, journal, faults())).toBe(false);
  expect(isOfBusyMachine(lost, [], busy("stalled"))).toBe(true);
  expect(isOfBusyMachine(lost, journal, busy("overloaded"))).toBe(true);
  expect(isOfBusyMachine(lost, [], busy("overloaded"))).toBe(false);
});

test("drill: a repeated assignment needs a fault of the worker, the orchestrator or a server", () => {
  const listens = line("worker listens", 0, { worker_id: "one" });
  const refused = line("worker refused the job", 20_000, { worker_id: "one", attempt: 1 });
  const lines = [listens, refused];
  expect(unexplainedLines([refused], lines, faults())).toHaveLength(1);
  const before = (target: string) => faults(fault("worker frozen, short", target, 14_000, 15_000));
  expect(unexplainedLines([refused], lines, before("worker-3"))).toHaveLength(1);
  // The line that names the worker is that of orchestrator-1 here.
  expect(unexplainedLines([refused], lines, before("orchestrator-1"))).toEqual([]);
});
