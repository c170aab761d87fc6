/** One start of a worker: its real runs, services and tag, with a pipeline whose build only takes time. */
import { sleep } from "../../../../src/shared/abort.ts";
import type { Logger } from "../../../../src/shared/logging.ts";
import { confirmLease } from "../../../../src/worker/control-plane/lease-confirmation.ts";
import { Registration } from "../../../../src/worker/control-plane/registration.ts";
import { workerService } from "../../../../src/worker/control-plane/service.ts";
import { RunDrained } from "../../../../src/worker/job/cancellation.ts";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { DEFAULT_RETRY } from "../../../../src/worker/job/retry.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { type RunEnd, unsuccessful } from "../../../../src/worker/pipeline/run-end.ts";
import { putVersionTag } from "../../../../src/worker/pipeline/version-tag.ts";
import { Journals } from "../../../../src/worker/runs/journals.ts";
import { Runs } from "../../../../src/worker/runs/runs.ts";
import type { Invariants } from "./invariants.ts";
import type { Network } from "./network.ts";
import { manifestOf, type Registry } from "./registry.ts";
import type { Process } from "./simulation.ts";
import { SimulatedOrchestrators } from "./worker-client.ts";

/** As in src/worker/worker.ts. */
const TAG_TIMEOUT_MS = 5000;
const HAND_OVER_TIMEOUT_MS = 10_000;
const LATE_CALLS_MS = 500;
/** Shorter than there, as long as the deliveries of a schedule are late at worst. */
const ABANDON_AFTER_MS = 30_000;

const unheard = { waiting: () => undefined, registered: () => undefined };

export interface WorkerParts {
  readonly process: Process;
  readonly workerId: string;
  readonly incarnation: string;
  readonly region: string;
  readonly address: string;
  readonly slots: number;
  readonly orchestratorAddresses: readonly string[];
  readonly network: Network;
  readonly registry: Registry;
  readonly invariants: Invariants;
  readonly logger: Logger;
  buildOf(jobId: string): Build;
}

export interface Build {
  readonly durationMs: number;
  readonly end: "success" | "failure" | "retryable failure";
}

export interface Worker {
  readonly runs: Runs;
  /** Drains for at most this long. */
  stop(timeoutMs: number): Promise<void>;
}

export function startWorker(parts: WorkerParts): Worker {
  const { process, workerId, incarnation, region, address, slots, network, logger } = parts;
  const identity = { workerId, incarnation };
  const orchestrators = new SimulatedOrchestrators(network, process, parts.orchestratorAddresses);
  const runs: Runs = new Runs({
    slots,
    logLimits: { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } },
    // No file is created: nothing here prints lines.
    journals: new Journals({ folder: "/nonexistent/logs", diskBytes: Number.POSITIVE_INFINITY, logger }),
    keepFinishedMs: 86_400_000,
    keepFinishedCount: 100,
    abandonAfterMs: ABANDON_AFTER_MS,
    logger,
    execute: (job, reporter, signal) => execute(parts, job, reporter, signal, confirm),
  });
  const confirm = (job: PipelineJob, signal: AbortSignal) =>
    confirmLease(orchestrators, identity, job, () => runs.isAbandoned(job), signal);
  const describe = () => ({
    ...identity,
    region,
    address,
    slots,
    version: "1",
    capabilities: undefined,
    labels: {},
    keepsId: false,
    runs: [...runs.held()],
  });
  const registration = new Registration(orchestrators, describe, unheard, logger);
  network.serve(
    address,
    process,
    workerService({
      identity,
      runs,
      logger,
      beforeJob: async () => undefined,
      load: () => undefined,
      onPing: registration.pinged,
    }),
  );
  const stopping = new AbortController();
  const registered = registration.keep(stopping.signal);
  return {
    runs,
    async stop(timeoutMs) {
      const drained = runs.drain();
      await Promise.race([drained, sleep(timeoutMs)]);
      runs.endAll(new RunDrained());
      await drained;
      await Promise.race([runs.acknowledged(), sleep(HAND_OVER_TIMEOUT_MS)]);
      stopping.abort(new Error("the worker stops"));
      await registered;
      await registration.deregister().catch(() => undefined);
      await sleep(LATE_CALLS_MS);
    },
  };
}

/** As run-pipeline.ts: the end is a value. */
async function execute(
  { process, slots, registry, invariants, buildOf }: WorkerParts,
  job: PipelineJob,
  reporter: RunReporter,
  signal: AbortSignal,
  confirm: (job: PipelineJob, signal: AbortSignal) => Promise<number>,
): Promise<RunEnd> {
  const startedAt = new Date();
  const ended = () => ({
    timingsMs: { clone: 0, build: 0, auth: 0, push: 0, total: 0 },
    startedAt,
    finishedAt: new Date(),
  });
  const run = invariants.begins(job, process, slots);
  const { durationMs, end } = buildOf(job.jobId);
  const context = { job, registry: registry.client(), retry: DEFAULT_RETRY, log: () => undefined, signal };
  try {
    reporter.state("CLONING");
    const existing = await context.registry.getManifest(job.ecrRepo, job.deploymentVersion, signal);
    if (existing) return { ...ended(), status: "SUCCESS", imageDigest: existing.digest };
    reporter.state("BUILDING");
    await sleep(durationMs, signal);
    if (end !== "success") throw buildFailure(end === "retryable failure");
    const manifest = manifestOf(digestOf(job));
    const confirmRun = (asked: AbortSignal) => confirm(job, asked);
    await putVersionTag({ ...context, manifest, confirmLease: confirmRun, tagTimeoutMs: TAG_TIMEOUT_MS });
    return { ...ended(), status: "SUCCESS", imageDigest: manifest.digest };
  } catch (error) {
    return { ...ended(), ...unsuccessful(error, signal, "build") };
  } finally {
    invariants.ends(run);
  }
}

function digestOf({ jobId, attempt }: PipelineJob): string {
  return `sha256:${jobId}-${attempt}`;
}

export function attemptIn(digest: string): number {
  return Number(digest.split("-").at(-1));
}

function buildFailure(retryable: boolean): StepFailure {
  return new StepFailure({ code: "BUILD_FAILED", step: "build", message: "the build failed", retryable });
}
