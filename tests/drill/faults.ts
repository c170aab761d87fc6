/**
 * All kinds of faults. A fault begins, lasts, is healed, and has settled when its part works again; kinds, targets,
 * times and durations are planned in advance from the seed.
 */
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Range, SeededRandom } from "./seeded-random.ts";
import { LEASE_TTL_MS, type OrchestratorPart, type Site, untilReady, type WorkerPart } from "./site.ts";

/** A part that only one fault at a time may affect. */
export type PartName = string;

export interface Fault {
  begin(): Promise<void> | void;
  heal(): Promise<void> | void;
  /** Rejects when the part does not recover. */
  settled(): Promise<void>;
}

export interface FaultKind {
  readonly name: string;
  readonly lastsMs: Range;
  /** Possible targets, each as the list of affected parts. */
  readonly targets: readonly (readonly PartName[])[];
  /** The worker is unreachable or frozen: the only time in which another attempt may overlap with its own. */
  readonly isolates?: true;
  /** Redis has lost its data. */
  readonly forgets?: true;
  /** Recovery counts from the beginning (something was lost) or from the healing (something was only stopped). */
  readonly recoversFrom: "begin" | "heal";
  make(site: Site, target: readonly PartName[], lastsMs: number): Fault;
}

export interface PlannedFault {
  readonly number: number;
  readonly kind: FaultKind;
  readonly target: readonly PartName[];
  readonly lastsMs: number;
  /** From its beginning to that of the next fault, unless the next one has to wait for its part. */
  readonly pauseMs: number;
}

/** All others run through the whole drill, so that their memory can be compared. */
const STOPPABLE_ORCHESTRATORS = [["orchestrator-1"]];
const STOPPABLE_WORKERS = [["worker-1"], ["worker-2"], ["worker-3"]];
const ORCHESTRATORS = [["orchestrator-1"], ["orchestrator-2"]];
const WORKERS = [["worker-1"], ["worker-2"], ["worker-3"], ["worker-4"]];

const SHORTER_THAN_LEASE: Range = [300, LEASE_TTL_MS / 2];
/** Long enough for the next attempt to begin, two seconds after the lease has ended. */
const LONGER_THAN_LEASE: Range = [LEASE_TTL_MS + 1000, LEASE_TTL_MS + 10_000];
const AROUND_LEASE: Range = [1000, LEASE_TTL_MS + 5000];
const SOON: Range = [0, 2500];

const DRAIN_MS = 120_000;
const STOP_MS = 30_000;
const BACK_MS = 90_000;
const PAUSE_MS: Range = [2500, 7500];

export const MEAN_PAUSE_MS = (PAUSE_MS[0] + PAUSE_MS[1]) / 2;

function orchestratorOf({ orchestrators }: Site, [name]: readonly PartName[]): OrchestratorPart {
  const found = orchestrators.find(({ program }) => program.name === name);
  if (!found) throw new Error(`unknown part ${name}`);
  return found;
}

function workerOf({ workers }: Site, [name]: readonly PartName[]): WorkerPart {
  const found = workers.find(({ program }) => program.name === name);
  if (!found) throw new Error(`unknown part ${name}`);
  return found;
}

async function untilAllReady({ orchestrators }: Site): Promise<void> {
  await Promise.all(orchestrators.map(untilReady));
}

interface ShownWorker {
  readonly address: string;
  readonly status: string;
}

/** Resolves when an orchestrator counts the worker as alive. */
async function untilKnown(
  { orchestrators }: Site,
  { program, fromOrchestrators }: WorkerPart,
): Promise<void> {
  await program.ready();
  const isKnownTo = async ({ apiUrl }: OrchestratorPart) => {
    const response = await apiRequest(apiUrl, "/api/v1/workers", { signal: AbortSignal.timeout(2000) });
    const { items } = (await response.json()) as { items: ShownWorker[] };
    return items.some(({ address, status }) => address === fromOrchestrators.address && status !== "LOST");
  };
  await waitFor(
    async () => Promise.any(orchestrators.map(async (one) => (await isKnownTo(one)) || refuse())),
    {
      timeoutMs: BACK_MS,
      intervalMs: 100,
      what: `${program.name} to be known again`,
    },
  );
}

function refuse(): never {
  throw new Error("not yet");
}

type OrchestratorFault = (part: OrchestratorPart, lastsMs: number) => Pick<Fault, "begin" | "heal">;
type WorkerFault = (part: WorkerPart, lastsMs: number) => Pick<Fault, "begin" | "heal">;
type ServerFault = (site: Site) => Pick<Fault, "begin" | "heal">;
type KindOptions = Omit<FaultKind, "name" | "make" | "targets">;

function onOrchestrator(
  name: string,
  options: KindOptions & Partial<Pick<FaultKind, "targets">>,
  faultOf: OrchestratorFault,
): FaultKind {
  return {
    name,
    targets: ORCHESTRATORS,
    ...options,
    make(site, target, lastsMs) {
      const part = orchestratorOf(site, target);
      return { ...faultOf(part, lastsMs), settled: () => untilReady(part) };
    },
  };
}

function onWorker(
  name: string,
  options: KindOptions & Partial<Pick<FaultKind, "targets">>,
  faultOf: WorkerFault,
): FaultKind {
  return {
    name,
    targets: WORKERS,
    ...options,
    make(site, target, lastsMs) {
      const part = workerOf(site, target);
      return { ...faultOf(part, lastsMs), settled: () => untilKnown(site, part) };
    },
  };
}

function onServer(name: string, target: PartName, options: KindOptions, faultOf: ServerFault): FaultKind {
  return {
    name,
    targets: [[target]],
    ...options,
    make: (site) => ({ ...faultOf(site), settled: () => untilAllReady(site) }),
  };
}

const healed = () => undefined;

async function killBroker({ backends: { rabbitmq } }: Site): Promise<void> {
  // RabbitMQ writes the register of its quorum queues lazily; a queue that is missing in it returns after a minute.
  await rabbitmq.rabbitmqctl(["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
  await rabbitmq.kill();
}

/** On the first signal builds continue; the second one, if the worker still runs, ends them. */
async function stopTwice({ program }: WorkerPart, apartMs: number): Promise<void> {
  const { process } = program.current;
  process.signal("SIGTERM");
  await Promise.race([process.exited, Bun.sleep(apartMs)]);
  if (process.exitCode === null) process.signal("SIGTERM");
  await program.exitsCleanly(STOP_MS);
}

export const FAULT_KINDS: readonly FaultKind[] = [
  onOrchestrator(
    "orchestrator killed",
    { targets: STOPPABLE_ORCHESTRATORS, lastsMs: SOON, recoversFrom: "begin" },
    ({ program }) => ({ begin: () => program.kill(), heal: () => program.start() }),
  ),
  onOrchestrator(
    "orchestrator stopped",
    { targets: STOPPABLE_ORCHESTRATORS, lastsMs: SOON, recoversFrom: "begin" },
    ({ program }) => ({
      begin() {
        program.current.process.signal("SIGTERM");
        return program.exitsCleanly(STOP_MS);
      },
      heal: () => program.start(),
    }),
  ),
  onOrchestrator(
    "orchestrator frozen, short",
    { lastsMs: SHORTER_THAN_LEASE, recoversFrom: "heal" },
    ({ program }) => ({
      begin: () => program.current.process.pause(),
      heal: () => program.current.process.resume(),
    }),
  ),
  onOrchestrator(
    "orchestrator frozen, long",
    { lastsMs: LONGER_THAN_LEASE, recoversFrom: "heal" },
    ({ program }) => ({
      begin: () => program.current.process.pause(),
      heal: () => program.current.process.resume(),
    }),
  ),
  onOrchestrator(
    "orchestrator cut off from RabbitMQ",
    { lastsMs: [2000, 12_000], recoversFrom: "heal" },
    ({ toRabbitMq }) => ({ begin: toRabbitMq.cut, heal: toRabbitMq.heal }),
  ),
  onOrchestrator(
    "orchestrator's RabbitMQ connections reset",
    { lastsMs: [0, 5000], recoversFrom: "heal" },
    ({ toRabbitMq }) => ({ begin: toRabbitMq.reset, heal: toRabbitMq.heal }),
  ),
  onOrchestrator(
    "orchestrator cut off from Redis",
    { lastsMs: AROUND_LEASE, recoversFrom: "heal" },
    ({ toRedis }) => ({ begin: toRedis.cut, heal: toRedis.heal }),
  ),
  {
    name: "all orchestrators frozen",
    targets: [["orchestrator-1", "orchestrator-2"]],
    lastsMs: LONGER_THAN_LEASE,
    recoversFrom: "heal",
    make: (site) => ({
      begin() {
        for (const { program } of site.orchestrators) program.current.process.pause();
      },
      heal() {
        for (const { program } of site.orchestrators) program.current.process.resume();
      },
      settled: () => untilAllReady(site),
    }),
  },

  onWorker(
    "worker killed",
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, recoversFrom: "begin" },
    ({ program }) => ({ begin: () => program.kill(), heal: () => program.start() }),
  ),
  onWorker(
    "worker drained",
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, recoversFrom: "heal" },
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
    { targets: STOPPABLE_WORKERS, lastsMs: SOON, recoversFrom: "begin" },
    (part, lastsMs) => ({ begin: () => stopTwice(part, lastsMs), heal: () => part.program.start() }),
  ),
  onWorker(
    "worker frozen, short",
    { lastsMs: SHORTER_THAN_LEASE, recoversFrom: "heal", isolates: true },
    ({ program }) => ({
      begin: () => program.current.process.pause(),
      heal: () => program.current.process.resume(),
    }),
  ),
  onWorker(
    "worker frozen, long",
    { lastsMs: LONGER_THAN_LEASE, recoversFrom: "heal", isolates: true },
    ({ program }) => ({
      begin: () => program.current.process.pause(),
      heal: () => program.current.process.resume(),
    }),
  ),
  onWorker(
    "worker cut off from orchestrators",
    { lastsMs: [1000, LEASE_TTL_MS + 10_000], recoversFrom: "heal", isolates: true },
    ({ toOrchestrators, fromOrchestrators }) => ({
      begin() {
        for (const proxy of [...toOrchestrators, fromOrchestrators]) proxy.cut();
      },
      heal() {
        for (const proxy of [...toOrchestrators, fromOrchestrators]) proxy.heal();
      },
    }),
  ),
  onWorker(
    "worker cut off from the registry",
    { lastsMs: AROUND_LEASE, recoversFrom: "heal" },
    ({ toRegistry }) => ({ begin: toRegistry.cut, heal: toRegistry.heal }),
  ),
  onWorker("worker cut off from git", { lastsMs: AROUND_LEASE, recoversFrom: "heal" }, ({ toGit }) => ({
    begin: toGit.cut,
    heal: toGit.heal,
  })),

  onServer("RabbitMQ killed", "rabbitmq", { lastsMs: SOON, recoversFrom: "heal" }, (site) => ({
    begin: () => killBroker(site),
    heal: () => site.backends.rabbitmq.start(),
  })),
  onServer(
    "RabbitMQ frozen",
    "rabbitmq",
    { lastsMs: [1000, 8000], recoversFrom: "heal" },
    ({ backends: { rabbitmq } }) => ({ begin: rabbitmq.pause, heal: rabbitmq.resume }),
  ),
  onServer(
    "RabbitMQ closes all connections",
    "rabbitmq",
    { lastsMs: [0, 0], recoversFrom: "begin" },
    ({ backends: { rabbitmq } }) => ({
      async begin() {
        await rabbitmq.rabbitmqctl(["close_all_connections", "--vhost", rabbitmq.vhost, "a drill"]);
      },
      heal: healed,
    }),
  ),
  onServer(
    "Redis killed",
    "redis",
    { lastsMs: [0, LEASE_TTL_MS + 2000], recoversFrom: "heal", forgets: true },
    ({ backends: { redis } }) => ({ begin: redis.kill, heal: redis.start }),
  ),
  onServer(
    "Redis frozen",
    "redis",
    { lastsMs: AROUND_LEASE, recoversFrom: "heal" },
    ({ backends: { redis } }) => ({ begin: redis.pause, heal: redis.resume }),
  ),
  onServer(
    "Redis flushed",
    "redis",
    { lastsMs: [0, 0], recoversFrom: "begin", forgets: true },
    ({ backends: { redis } }) => ({
      async begin() {
        await redis.cli("FLUSHALL");
      },
      heal: healed,
    }),
  ),
  onServer(
    "registry restarted",
    "registry",
    { lastsMs: [500, 4000], recoversFrom: "heal" },
    ({ backends: { registry } }) => ({ begin: registry.kill, heal: registry.start }),
  ),
  onServer(
    "Docker restarted",
    "docker",
    { lastsMs: [0, 2000], recoversFrom: "heal" },
    ({ backends: { docker } }) => ({ begin: docker.kill, heal: docker.start }),
  ),
];

/** Every kind occurs once before one occurs a second time. */
export function planFaults(count: number, seed: string | number): PlannedFault[] {
  const random = new SeededRandom(`faults ${seed}`);
  const faults: PlannedFault[] = [];
  while (faults.length < count) {
    for (const kind of random.shuffled(FAULT_KINDS)) {
      faults.push({
        number: faults.length + 1,
        kind,
        target: random.pick(kind.targets),
        lastsMs: random.integer(kind.lastsMs),
        pauseMs: random.integer(PAUSE_MS),
      });
    }
  }
  return faults.slice(0, count);
}
