/** A worker is killed, stopped or frozen, or loses one of the parts that it is connected to. */
import type { CutTraffic } from "../../support/servers/tcp-proxy.ts";
import { LEASE_TTL_MS, type WorkerPart } from "../site/site.ts";
import {
  AROUND_LEASE,
  type FaultKind,
  LONGER_THAN_LEASE,
  onWorker,
  SHORTER_THAN_LEASE,
  SOON,
  STOPPABLE_WORKERS,
} from "./fault.ts";

const DRAIN_MS = 120_000;
const STOP_MS = 60_000;
/** Between the two signals to stop. */
const SIGNALS_APART_MS = 1000;

const frozen = ({ program }: WorkerPart) => ({
  begin: () => program.current.process.pause(),
  heal: () => program.current.process.resume(),
});

/** On the first signal builds continue; the second one, if the worker still runs, ends them. */
async function stopTwice({ program }: WorkerPart): Promise<void> {
  const { process } = program.current;
  process.signal("SIGTERM");
  await Promise.race([process.exited, Bun.sleep(SIGNALS_APART_MS)]);
  if (process.exitCode === null) process.signal("SIGTERM");
  await program.exitsCleanly(STOP_MS);
}

/** Links between a worker and the orchestrators. */
const calls = ({ fromOrchestrators }: WorkerPart) => [fromOrchestrators];
const questions = ({ toOrchestrators }: WorkerPart) => toOrchestrators;
export const bothWays = (worker: WorkerPart) => [...calls(worker), ...questions(worker)];

function cutOff(name: string, linksOf: typeof bothWays, traffic: CutTraffic = "both"): FaultKind {
  return onWorker(
    name,
    { lastsMs: [1000, LEASE_TTL_MS + 10_000], harms: ["run"], recoversFrom: "heal", isolates: true },
    (worker) => ({
      begin() {
        for (const link of linksOf(worker)) link.cut(traffic);
      },
      heal() {
        for (const link of linksOf(worker)) link.heal();
      },
    }),
  );
}

export const WORKER_FAULTS: readonly FaultKind[] = [
  onWorker(
    "worker killed",
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, harms: ["run"], recoversFrom: "begin" },
    ({ program }) => ({ begin: () => program.kill(), heal: () => program.start() }),
  ),
  onWorker(
    "worker drained",
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, harms: [], recoversFrom: "heal" },
    ({ program }) => ({
      begin() {
        program.current.process.signal("SIGTERM");
        return program.exitsCleanly(DRAIN_MS);
      },
      heal: () => program.start(),
    }),
  ),
  onWorker(
    "worker stopped, signalled twice",
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, harms: ["run"], recoversFrom: "begin" },
    (part) => ({ begin: () => stopTwice(part), heal: () => part.program.start() }),
  ),
  onWorker(
    "worker frozen, short",
    { lastsMs: SHORTER_THAN_LEASE, harms: [], recoversFrom: "heal", isolates: true },
    frozen,
  ),
  onWorker(
    "worker frozen, long",
    { lastsMs: LONGER_THAN_LEASE, harms: ["run"], recoversFrom: "heal", isolates: true },
    frozen,
  ),
  cutOff("worker cut off from orchestrators", bothWays),
  cutOff("orchestrators' calls to worker lost", calls, "requests"),
  cutOff("answers of worker to orchestrators lost", calls, "answers"),
  onWorker(
    "worker's requests to orchestrators lost",
    { lastsMs: AROUND_LEASE, harms: ["run"], recoversFrom: "heal" },
    (worker) => ({
      begin() {
        for (const link of worker.toOrchestrators) link.cut("requests");
      },
      heal() {
        for (const link of worker.toOrchestrators) link.heal();
      },
    }),
  ),
  onWorker(
    "worker cut off from the registry",
    { lastsMs: AROUND_LEASE, harms: ["registry"], recoversFrom: "heal" },
    ({ toRegistry }) => ({ begin: () => toRegistry.cut(), heal: toRegistry.heal }),
  ),
  onWorker(
    "worker cut off from git",
    { lastsMs: AROUND_LEASE, harms: ["git"], recoversFrom: "heal" },
    ({ toGit }) => ({ begin: () => toGit.cut(), heal: toGit.heal }),
  ),
];
