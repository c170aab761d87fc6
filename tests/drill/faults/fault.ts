/** The parts of a fault, and how long faults last. */
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { Range } from "../seeded-random.ts";
import { LEASE_TTL_MS, type OrchestratorPart, type Site, untilReady, type WorkerPart } from "../site/site.ts";

/** A part that only one fault at a time may affect. */
export type PartName = string;

/** A fault begins, lasts, is healed, and has settled when its part works again. */
export interface Fault {
  /**
   * Resolves with the time at which the moment of the fault has come, in ms since 1970; undefined when the signal
   * aborts before that: then the fault does not happen. Without it, the fault begins at once.
   */
  readonly awaitMoment?: (signal: AbortSignal) => Promise<number | undefined>;
  begin(): Promise<void> | void;
  heal(): Promise<void> | void;
  /** Rejects when the part does not recover. */
  settled(): Promise<void>;
}

/** Possible effect of a fault on a job whose attempt depends on its part. */
export type Harm =
  /** The worker's runs may be lost. */
  | "run"
  /** The orchestrator may be unable to renew leases: runs are lost if that is true of all orchestrators. */
  | "pings"
  /** Leases may end, whichever worker has them. */
  | "leases"
  /** Results, or their confirmations, may be lost. */
  | "messages"
  | "registry"
  | "git"
  | "docker";

export interface FaultKind {
  readonly name: string;
  readonly lastsMs: Range;
  /** Possible targets, each as the list of affected parts. */
  readonly targets: readonly (readonly PartName[])[];
  readonly harms: readonly Harm[];
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
export const STOPPABLE_ORCHESTRATORS = [["orchestrator-1"]];
export const STOPPABLE_WORKERS = [["worker-1"], ["worker-2"], ["worker-3"]];
export const ORCHESTRATORS = [["orchestrator-1"], ["orchestrator-2"]];
export const WORKERS = [["worker-1"], ["worker-2"], ["worker-3"], ["worker-4"]];

export const SHORTER_THAN_LEASE: Range = [300, LEASE_TTL_MS / 2];
/** Long enough for the next attempt to begin, two seconds after the lease has ended. */
export const LONGER_THAN_LEASE: Range = [LEASE_TTL_MS + 1000, LEASE_TTL_MS + 10_000];
export const AROUND_LEASE: Range = [1000, LEASE_TTL_MS + 5000];
export const SOON: Range = [0, 2500];

const BACK_MS = 90_000;

export function orchestratorOf({ orchestrators }: Site, [name]: readonly PartName[]): OrchestratorPart {
  const found = orchestrators.find(({ program }) => program.name === name);
  if (!found) throw new Error(`unknown part ${name}`);
  return found;
}

export function workerOf({ workers }: Site, [name]: readonly PartName[]): WorkerPart {
  const found = workers.find(({ program }) => program.name === name);
  if (!found) throw new Error(`unknown part ${name}`);
  return found;
}

export async function untilAllReady({ orchestrators }: Site): Promise<void> {
  await Promise.all(orchestrators.map(untilReady));
}

interface ShownWorker {
  readonly address: string;
  readonly status: string;
}

/** Resolves when an orchestrator counts the worker as alive. */
export async function untilKnown(
  { orchestrators }: Site,
  { program, address: own }: WorkerPart,
): Promise<void> {
  await program.ready();
  const isKnownTo = async ({ apiUrl }: OrchestratorPart) => {
    const response = await apiRequest(apiUrl, "/api/v1/workers", { signal: AbortSignal.timeout(2000) });
    const { items } = (await response.json()) as { items: ShownWorker[] };
    return items.some(({ address, status }) => address === own && status !== "LOST");
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

type KindOptions = Omit<FaultKind, "name" | "make" | "targets">;
type Course = Pick<Fault, "awaitMoment" | "begin" | "heal">;

export function onOrchestrator(
  name: string,
  options: KindOptions & Partial<Pick<FaultKind, "targets">>,
  faultOf: (part: OrchestratorPart, lastsMs: number) => Course,
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

export function onWorker(
  name: string,
  options: KindOptions & Partial<Pick<FaultKind, "targets">>,
  faultOf: (part: WorkerPart, site: Site) => Course,
): FaultKind {
  return {
    name,
    targets: WORKERS,
    ...options,
    make(site, target) {
      const part = workerOf(site, target);
      return { ...faultOf(part, site), settled: () => untilKnown(site, part) };
    },
  };
}

export function onServer(
  name: string,
  target: PartName,
  options: KindOptions,
  faultOf: (site: Site) => Course,
): FaultKind {
  return {
    name,
    targets: [[target]],
    ...options,
    make: (site) => ({ ...faultOf(site), settled: () => untilAllReady(site) }),
  };
}
