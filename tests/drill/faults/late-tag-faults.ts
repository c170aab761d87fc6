/**
 * A worker is isolated when its image is pushed and its tag is not put yet, and asks for its lease late: while it is
 * about to end, after its end, or after Redis has forgotten it.
 */
import { waitFor } from "../../support/machine/wait-for.ts";
import { LEASE_TTL_MS, PING_INTERVAL_MS, type Site, type WorkerPart } from "../site/site.ts";
import { type Fault, type FaultKind, onWorker, untilKnown, WORKERS } from "./fault.ts";
import { cutAtMoment, imagePushed, tagPut } from "./moments.ts";
import { bothWays } from "./worker-faults.ts";

const cutWhenPushed = (workers: readonly WorkerPart[], signal: AbortSignal) =>
  cutAtMoment(
    workers.map(({ toRegistry }) => toRegistry),
    { matches: imagePushed, isPassed: false },
    "requests",
    signal,
  );

const untilPushed = (worker: WorkerPart) => async (signal: AbortSignal) =>
  (await cutWhenPushed([worker], signal))?.at;

function heal(worker: WorkerPart): void {
  for (const link of [worker.toRegistry, ...bothWays(worker)]) link.heal();
}

/** Before the end of a lease that the last ping has extended, with time for the answer to the confirmation. */
const NEAR_LEASE_END_MS = LEASE_TTL_MS - PING_INTERVAL_MS - 600;
/** Just within the timeout of the request for the tag: half of the lease that was just confirmed. */
const SLOW_TAG_MS = LEASE_TTL_MS / 2 - 250;
const ANSWERED_MS = 300;

/**
 * Without the confirmation its lease would have ended before the tag is put. The confirmation is the only call that
 * passes meanwhile: a registration would renew the lease.
 */
async function confirmLate({ toRegistry, fromOrchestrators, toOrchestrators }: WorkerPart): Promise<void> {
  fromOrchestrators.cut();
  await Bun.sleep(NEAR_LEASE_END_MS);
  const put = toRegistry.cutAt({ matches: tagPut, isPassed: false }, "requests");
  toRegistry.heal();
  await Promise.race([put.happened, Bun.sleep(LEASE_TTL_MS)]);
  put.cancel();
  for (const link of toOrchestrators) link.cut();
  await Bun.sleep(SLOW_TAG_MS);
  toRegistry.heal();
  await Bun.sleep(ANSWERED_MS);
}

/** The worker reaches the registry some time before it learns from an orchestrator that its lease has ended. */
const REGISTRY_FIRST_MS = 1500;

function newRunElsewhere({ workers }: Site, worker: WorkerPart): () => boolean {
  const others = workers.filter((other) => other !== worker).map(({ program }) => program);
  const runs = () =>
    others.flatMap(({ current }) =>
      current.process.lines.filter((line) => /"attempt":[2-9].*"run started"/.test(line)),
    );
  const before = runs().length;
  return () => runs().length > before;
}

/** The next attempt may have to wait for a slot. */
const TAKEN_OVER_MS = 45_000;

/**
 * The next attempt begins on another worker, and cannot end before the registry answers. Then Redis forgets both,
 * learns of the next attempt first, and of this one while no ping of the other worker is answered.
 */
async function returnAfterLoss(site: Site, worker: WorkerPart): Promise<void> {
  const others = site.workers.filter((other) => other !== worker);
  const isTakenOver = newRunElsewhere(site, worker);
  for (const link of bothWays(worker)) link.cut();
  const what = `another attempt than that of ${worker.program.name}`;
  const takenOver = waitFor(isTakenOver, { timeoutMs: TAKEN_OVER_MS, intervalMs: 20, what });
  // A job that is cancelled meanwhile has no other attempt.
  if (!(await takenOver.catch(() => false))) return;
  for (const { toRegistry } of others) toRegistry.cut("requests");
  await site.backends.redis.cli("FLUSHALL");
  await Promise.all(others.map((other) => untilKnown(site, other)));
  for (const link of bothWays(worker)) link.heal();
  await untilKnown(site, worker);
  for (const { fromOrchestrators } of others) fromOrchestrators.cut();
  await Bun.sleep(2 * PING_INTERVAL_MS);
  worker.toRegistry.heal();
  await Bun.sleep(REGISTRY_FIRST_MS);
}

/** The first worker whose image is pushed. */
function returnsAfterLoss(site: Site): Omit<Fault, "settled"> {
  let worker: WorkerPart | undefined;
  return {
    async awaitMoment(signal) {
      const cut = await cutWhenPushed(site.workers, signal);
      worker = site.workers.find(({ toRegistry }) => toRegistry === cut?.link);
      return cut?.at;
    },
    async begin() {
      if (worker) await returnAfterLoss(site, worker);
    },
    heal: () => site.workers.forEach(heal),
  };
}

export const LATE_TAG_FAULTS: readonly FaultKind[] = [
  onWorker(
    "worker confirms its lease late",
    // On a busy machine the request for the tag ends too late, and is repeated.
    { lastsMs: [0, 0], harms: ["run", "registry"], isolates: true, recoversFrom: "heal" },
    (worker) => ({
      awaitMoment: untilPushed(worker),
      begin: () => confirmLate(worker),
      heal: () => heal(worker),
    }),
  ),
  onWorker(
    "worker isolated before its tag",
    {
      lastsMs: [LEASE_TTL_MS + 4000, LEASE_TTL_MS + 8000],
      harms: ["run", "registry"],
      isolates: true,
      recoversFrom: "heal",
    },
    (worker) => ({
      awaitMoment: untilPushed(worker),
      begin() {
        for (const link of bothWays(worker)) link.cut();
      },
      async heal() {
        worker.toRegistry.heal();
        await Bun.sleep(REGISTRY_FIRST_MS);
        heal(worker);
      },
    }),
  ),
  {
    name: "worker returns to its tag after a loss of Redis",
    targets: [[...WORKERS.flat(), "redis", "registry"]],
    lastsMs: [0, 0],
    harms: ["run", "leases", "registry", "messages"],
    isolates: true,
    forgets: true,
    recoversFrom: "heal",
    make: (site) => ({
      ...returnsAfterLoss(site),
      settled: async () => void (await Promise.all(site.workers.map((each) => untilKnown(site, each)))),
    }),
  },
];
