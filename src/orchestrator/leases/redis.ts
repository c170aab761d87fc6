/** Leases in Redis, shared by all orchestrators. Keys and rules are in scripts/common.lua. */
import { randomUUID } from "node:crypto";
import type { RunRef } from "../../shared/job.ts";
import { Listeners } from "../../shared/listeners.ts";
import type { Logger } from "../../shared/logging.ts";
import {
  connectInBackground,
  createQuietRedisClient,
  createRedisClient,
  isReady,
  type RedisClient,
  type RedisTimeouts,
} from "../redis/client.ts";
import { RedisScript } from "../redis/script.ts";
import type { Control, ControlKind, ControlOrder, ControlOutcome, ControlTarget } from "./control.ts";
import { withControls } from "./controlled-view.ts";
import {
  type CancelledJob,
  type Claim,
  type ClaimOutcome,
  type ClaimRequest,
  type Fence,
  type JobAtCancel,
  type Leases,
  LeasesUnavailable,
  type MachineLoad,
  type Observation,
  type RegisterOutcome,
  type SlotGroup,
  unproven,
  unregistered,
  type WorkerRegistration,
  type WorkerStatus,
  type WorkerView,
} from "./leases.ts";
import cancelLua from "./scripts/cancel.lua" with { type: "text" };
import cancellingLua from "./scripts/cancelling.lua" with { type: "text" };
import claimLua from "./scripts/claim.lua" with { type: "text" };
import commonLua from "./scripts/common.lua" with { type: "text" };
import confirmLua from "./scripts/confirm.lua" with { type: "text" };
import controlLua from "./scripts/control.lua" with { type: "text" };
import deregisterLua from "./scripts/deregister.lua" with { type: "text" };
import fenceLua from "./scripts/fence.lua" with { type: "text" };
import freeSlotsLua from "./scripts/free-slots.lua" with { type: "text" };
import observeLua from "./scripts/observe.lua" with { type: "text" };
import registerLua from "./scripts/register.lua" with { type: "text" };
import releaseLua from "./scripts/release.lua" with { type: "text" };
import suspectLua from "./scripts/suspect.lua" with { type: "text" };
import touchLua from "./scripts/touch.lua" with { type: "text" };
import workersLua from "./scripts/workers.lua" with { type: "text" };

const TOUCHES_PER_LEASE = 10;
const MAX_CLOCK_SKEW_MS = 1000;
/** The message on the channel of changes; any other one is a change without more information. */
const REGISTRATION = "registration";
const WORKER_UNKNOWN = -2;
const REGION_CONTROL = "region:";
const UNPROVEN = -3;

const scripts = {
  register: new RedisScript(commonLua, registerLua),
  deregister: new RedisScript(commonLua, deregisterLua),
  observe: new RedisScript(commonLua, observeLua),
  suspect: new RedisScript(commonLua, suspectLua),
  control: new RedisScript(commonLua, controlLua),
  workers: new RedisScript(commonLua, workersLua),
  freeSlots: new RedisScript(commonLua, freeSlotsLua),
  claim: new RedisScript(commonLua, claimLua),
  cancel: new RedisScript(commonLua, cancelLua),
  cancelling: new RedisScript(commonLua, cancellingLua),
  fence: new RedisScript(commonLua, fenceLua),
  confirm: new RedisScript(commonLua, confirmLua),
  release: new RedisScript(commonLua, releaseLua),
  touch: new RedisScript(commonLua, touchLua),
};

export interface RedisLeasesOptions {
  /** See `RedisClientOptions.url`. */
  readonly url: string;
  readonly leaseTtlMs: number;
  /** Attempt numbers are remembered this long after a job's last claim. */
  readonly jobMemoryMs: number;
  /** See `ClaimRequest.mayBeRunning`: lease time plus two pings, after which every worker has reported its runs. */
  readonly settleMs: number;
  readonly logger: Logger;
  /** With a hash tag. */
  readonly keyPrefix: string;
  /** See `RedisClientOptions.timeouts`. */
  readonly timeouts?: RedisTimeouts;
}

export class RedisLeases implements Leases {
  readonly #client: RedisClient;
  /** A subscribed connection accepts no other commands. */
  readonly #subscriber: RedisClient;
  readonly #prefix: string;
  readonly #changes: Listeners;
  readonly #registrations: Listeners;
  #closed = false;
  #touching: NodeJS.Timeout | undefined;
  readonly #id = randomUUID();
  readonly #reportedSettings = new Set<string>();

  constructor(private readonly options: RedisLeasesOptions) {
    this.#prefix = options.keyPrefix;
    this.#client = createRedisClient(options);
    const onError = (error: unknown) => options.logger.error({ err: error }, "lease change listener failed");
    this.#changes = new Listeners(onError);
    this.#registrations = new Listeners(onError);
    // The other client already logs that Redis is unreachable.
    this.#subscriber = createQuietRedisClient(options);
    this.#client.on("usable", () => {
      void this.#checkClock();
      // Workers that registered with other orchestrators meanwhile.
      this.#registrations.notify();
    });
    this.#subscriber.on("message", (_channel: string, message: string) => this.#onMessage(message));
    this.#subscriber.on("ready", () => void this.#subscribe());
  }

  start(): void {
    connectInBackground(this.#client);
    connectInBackground(this.#subscriber);
    this.#touching = setInterval(() => {
      // Whether it succeeds is recorded in Redis: see `since` in scripts/common.lua.
      if (this.isReady) this.#touch().catch(() => undefined);
    }, this.options.leaseTtlMs / TOUCHES_PER_LEASE);
  }

  get isReady(): boolean {
    return !this.#closed && isReady(this.#client);
  }

  async register(worker: WorkerRegistration): Promise<RegisterOutcome> {
    const { workerId, incarnation, region, address, slots, version, capabilities, runs } = worker;
    const { labels = {}, keepsId = false } = worker;
    const described = [
      this.#id,
      workerId,
      incarnation,
      region,
      address,
      slots,
      version,
      capabilities.join(","),
      JSON.stringify(labels),
      keepsId ? 1 : 0,
    ];
    const args = [...described, ...runArguments(runs)];
    const reply = (await this.#run(scripts.register, args)) as 0 | 1 | string;
    if (typeof reply === "string") return { addressOf: reply };
    return reply === 1 ? "registered" : "id-in-use";
  }

  async deregister(workerId: string, incarnation: string): Promise<void> {
    await this.#run(scripts.deregister, [workerId, incarnation]);
  }

  async observe(
    workerId: string,
    incarnation: string,
    { status, runs, refusal = "", load }: Observation,
  ): Promise<readonly RunRef[] | undefined> {
    const reported = [status, refusal, load ? JSON.stringify(load) : ""];
    const args = [this.#id, workerId, incarnation, ...reported, ...runArguments(runs)];
    const stale = (await this.#run(scripts.observe, args)) as string[] | null;
    return stale === null ? undefined : runs.filter(({ jobId }) => stale.includes(jobId));
  }

  async suspect(workerId: string, incarnation: string): Promise<void> {
    await this.#run(scripts.suspect, [this.#id, workerId, incarnation]);
  }

  async control({ kind, name }: ControlTarget, order: ControlOrder): Promise<ControlOutcome> {
    const args = [kind, name, order?.kind ?? "", order?.reason ?? ""];
    const reply = (await this.#run(scripts.control, args)) as [control: string | null, keepsId: 0 | 1] | null;
    if (reply === null) return { kind: "unknown" };
    const [control, keepsId] = reply;
    return {
      kind: "done",
      control: control === null ? undefined : toControl(control),
      lasts: keepsId ? "until-resumed" : "until-worker-restarts",
    };
  }

  async drainedRegions(): Promise<ReadonlyMap<string, Control>> {
    const controls = await this.#attempt(() => this.#client.hgetall(`${this.#prefix}controls`));
    const ofRegions = Object.entries(controls).filter(([name]) => name.startsWith(REGION_CONTROL));
    return new Map(ofRegions.map(([name, text]) => [name.slice(REGION_CONTROL.length), toControl(text)]));
  }

  async workers(): Promise<readonly WorkerView[]> {
    return ((await this.#run(scripts.workers, [this.#id])) as WorkerEntry[]).map(toWorkerView);
  }

  async freeSlots(): Promise<readonly SlotGroup[]> {
    const groups = (await this.#run(scripts.freeSlots, [this.#id])) as [string, string, number][];
    return groups.map(([region, capabilities, free]) => ({
      region,
      capabilities: splitCapabilities(capabilities),
      free,
    }));
  }

  async claim(request: ClaimRequest): Promise<ClaimOutcome> {
    const { jobId, regions, needs = [], source = "", mayBeRunning = false } = request;
    const { attempts = 0, avoidWorkerId = "" } = request;
    const settleMs = mayBeRunning ? this.options.settleMs : 0;
    const job = [jobId, settleMs, attempts, avoidWorkerId, needs.join(","), source];
    const args = [this.#id, ...job, ...regions];
    const reply = (await this.#run(scripts.claim, args)) as
      | ["none"]
      | ["incapable", forMs: number, attempts: number]
      | ["cancelled", reason: string, attempts: number]
      | ["held", ...ClaimFields]
      | ["claimed", region: string, hasBuiltSource: 0 | 1, ...ClaimFields];
    if (reply[0] === "none") return { kind: "none" };
    if (reply[0] === "incapable") return { kind: "incapable", forMs: reply[1], attempts: reply[2] };
    if (reply[0] === "cancelled") return { kind: "cancelled", reason: reply[1], attempts: reply[2] };
    if (reply[0] === "held") {
      const [kind, ...claim] = reply;
      return { kind, claim: toClaim(jobId, claim) };
    }
    const [kind, region, hasBuiltSource, ...claim] = reply;
    return {
      kind,
      claim: toClaim(jobId, claim),
      choice: { region, hasBuiltSource: hasBuiltSource === 1 },
    };
  }

  async cancel(jobId: string, reason: string): Promise<JobAtCancel> {
    const args = [jobId, reason, this.options.settleMs];
    const reply = (await this.#run(scripts.cancel, args)) as
      | ["unknown"]
      | ["unclaimed", attempts: number]
      | ["claimed", ...ClaimFields];
    if (reply[0] === "unknown") return { kind: "unknown" };
    if (reply[0] === "unclaimed") return { kind: "unclaimed", attempts: reply[1] };
    const [kind, ...claim] = reply;
    return { kind, claim: toClaim(jobId, claim) };
  }

  async cancellation(jobId: string): Promise<string | undefined> {
    return (await this.#attempt(() => this.#client.get(`${this.#prefix}cancelled:${jobId}`))) ?? undefined;
  }

  async cancelling(): Promise<readonly CancelledJob[]> {
    const flat = (await this.#run(scripts.cancelling, [])) as string[];
    return inPairs(flat).map(([jobId, reason]) => ({ jobId, reason }));
  }

  async cancelEnded(jobId: string): Promise<void> {
    await this.#attempt(() => this.#client.srem(`${this.#prefix}cancelling`, jobId));
  }

  async find(jobId: string): Promise<Claim | undefined> {
    const fields = await this.#attempt(() =>
      this.#client.hmget(`${this.#prefix}claim:${jobId}`, "worker", "incarnation", "attempt", "address"),
    );
    return fields[0] === null ? undefined : toClaim(jobId, fields as ClaimFields);
  }

  async fence(
    { jobId, attempt, workerId, incarnation }: Claim,
    { evenIfAlive = false } = {},
  ): Promise<Fence> {
    const args = [workerId, incarnation, jobId, attempt, this.options.settleMs, evenIfAlive ? 1 : 0];
    const confirmedForMs = Number(await this.#run(scripts.fence, args));
    return confirmedForMs < 0 ? { kind: "alive" } : { kind: "fenced", confirmedForMs };
  }

  async confirm(
    { jobId, attempt }: RunRef,
    workerId: string,
    incarnation: string,
  ): Promise<number | undefined> {
    const remainingMs = Number(await this.#run(scripts.confirm, [workerId, incarnation, jobId, attempt]));
    if (remainingMs === WORKER_UNKNOWN) {
      throw unregistered(workerId);
    }
    if (remainingMs === UNPROVEN) throw unproven({ jobId, attempt });
    return remainingMs < 0 ? undefined : remainingMs;
  }

  async release(claim: Claim): Promise<void> {
    await this.#end(claim, "released");
  }

  async retract(claim: Claim): Promise<void> {
    await this.#end(claim, "refused");
  }

  async retractUnsent(claim: Claim): Promise<boolean> {
    return await this.#end(claim, "unsent");
  }

  onChange(listener: () => void): void {
    this.#changes.add(listener);
  }

  onRegistered(listener: () => void): void {
    this.#registrations.add(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#touching);
    this.#client.disconnect();
    this.#subscriber.disconnect();
  }

  async #end(
    { jobId, attempt, workerId, incarnation }: Claim,
    ending: "released" | "refused" | "unsent",
  ): Promise<boolean> {
    return (await this.#run(scripts.release, [workerId, incarnation, jobId, attempt, ending])) === 1;
  }

  #onMessage(message: string): void {
    this.#changes.notify();
    if (message === REGISTRATION) this.#registrations.notify();
  }

  #run(script: RedisScript, args: readonly (string | number)[]): Promise<unknown> {
    const { leaseTtlMs, jobMemoryMs } = this.options;
    return this.#attempt(() => script.run(this.#client, this.#prefix, [leaseTtlMs, jobMemoryMs, ...args]));
  }

  async #attempt<T>(command: () => Promise<T>): Promise<T> {
    if (!this.isReady) throw new LeasesUnavailable("Redis is not connected");
    try {
      return await command();
    } catch (cause) {
      throw new LeasesUnavailable("a Redis command failed", { cause });
    }
  }

  async #touch(): Promise<void> {
    const settings = JSON.stringify(this.#sharedSettings());
    const others = (await this.#run(scripts.touch, [this.#id, settings])) as string[];
    for (const other of new Set(others)) {
      if (other === settings || this.#reportedSettings.has(other)) continue;
      this.#reportedSettings.add(other);
      this.options.logger.warn(
        { here: this.#sharedSettings(), elsewhere: JSON.parse(other) },
        "orchestrators have different settings: set the same values for all of them",
      );
    }
  }

  /** Settings that all orchestrators of one Redis have to agree on, by their names. */
  #sharedSettings(): Readonly<Record<string, string>> {
    const { leaseTtlMs, jobMemoryMs } = this.options;
    return { BLACKTREE_LEASE_TTL: `${leaseTtlMs}ms`, BLACKTREE_JOB_MEMORY: `${jobMemoryMs}ms` };
  }

  /** No decision depends on the difference, but times in records, events and logs do. */
  async #checkClock(): Promise<void> {
    try {
      const askedAt = Date.now();
      const [seconds, microseconds] = await this.#client.time();
      const skewMs = Math.round(
        Number(seconds) * 1000 + Number(microseconds) / 1000 - (askedAt + Date.now()) / 2,
      );
      if (Math.abs(skewMs) < MAX_CLOCK_SKEW_MS) return;
      this.options.logger.warn(
        { skew_ms: skewMs },
        "the clocks of Redis and this machine differ: synchronize them, for example with NTP",
      );
    } catch (error) {
      this.options.logger.debug({ err: error }, "failed to read the clock of Redis");
    }
  }

  async #subscribe(): Promise<void> {
    try {
      await this.#subscriber.subscribe(`${this.#prefix}changes`);
      // Changes may have been published while this orchestrator was not subscribed.
      this.#onMessage(REGISTRATION);
    } catch (error) {
      // The subscription is made again when the connection is ready again.
      const isRefused = error instanceof Error && error.message.startsWith("NOPERM");
      const message = "failed to subscribe to lease changes: jobs start later without them";
      this.options.logger[isRefused ? "warn" : "debug"]({ err: error }, message);
    }
  }
}

type ClaimFields = [worker: string, incarnation: string, attempt: number | string, address: string];

function toClaim(jobId: string, [workerId, incarnation, attempt, address]: ClaimFields): Claim {
  return { jobId, attempt: Number(attempt), workerId, incarnation, address };
}

type WorkerEntry = [
  workerId: string,
  incarnation: string,
  region: string,
  address: string,
  slots: number,
  version: string,
  capabilities: string,
  status: WorkerStatus,
  lastSeenMs: number,
  jobs: string[],
  refusal: string,
  hasLease: 0 | 1,
  isReached: 0 | 1,
  labels: string,
  keepsId: 0 | 1,
  load: string,
  runs: [jobId: string, attempt: number, sinceMs: string | null][],
  controls: [ofWorker: string | null, ofRegion: string | null],
];

function toWorkerView(entry: WorkerEntry): WorkerView {
  const [
    workerId,
    incarnation,
    region,
    address,
    slots,
    version,
    capabilities,
    status,
    lastSeenMs,
    jobs,
    refusal,
    hasLease,
    isReached,
    labels,
    keepsId,
    load,
    runs,
    [ofWorker, ofRegion],
  ] = entry;
  return {
    workerId,
    incarnation,
    region,
    address,
    slots,
    version,
    capabilities: splitCapabilities(capabilities),
    labels: labels === "" ? {} : (JSON.parse(labels) as WorkerView["labels"]),
    keepsId: keepsId === 1,
    ...withControls({
      status,
      refusal: refusal === "" ? undefined : refusal,
      ofWorker: ofWorker === null ? undefined : toControl(ofWorker),
      ofRegion: ofRegion === null ? undefined : toControl(ofRegion),
    }),
    load: load === "" ? undefined : (JSON.parse(load) as MachineLoad),
    jobs,
    runs: runs.map(([jobId, attempt, sinceMs]) => ({
      jobId,
      attempt,
      since: sinceMs === null ? undefined : new Date(Number(sinceMs)),
    })),
    lastSeen: new Date(lastSeenMs),
    hasLease: hasLease === 1,
    isReached: isReached === 1,
  };
}

/** As control.lua writes it. */
function toControl(text: string): Control {
  const [kind, sinceMs, ...reason] = text.split(" ");
  return { kind: kind as ControlKind, since: new Date(Number(sinceMs)), reason: reason.join(" ") };
}

function splitCapabilities(joined: string): readonly string[] {
  return joined === "" ? [] : joined.split(",");
}

function inPairs<Value>(flat: readonly Value[]): [Value, Value][] {
  return Array.from({ length: flat.length / 2 }, (_, index) => [
    flat[index * 2] as Value,
    flat[index * 2 + 1] as Value,
  ]);
}

function runArguments(runs: readonly RunRef[]): (string | number)[] {
  return runs.flatMap(({ jobId, attempt }) => [jobId, attempt]);
}
