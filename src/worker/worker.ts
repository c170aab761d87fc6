/** One worker: gRPC service, registration and pipeline put together. */
import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import type { Environment } from "../shared/env.ts";
import type { Logger } from "../shared/logging.ts";
import type { Capabilities } from "../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { serveRpc } from "../shared/rpc/server.ts";
import type { TlsFiles } from "../shared/rpc/tls.ts";
import { RESULT_LOG_BYTES } from "../shared/settings/common.ts";
import { formatHostPort, type HostPort } from "../shared/settings/parsers.ts";
import { VERSION } from "../shared/version.ts";
import { BuildCgroup } from "./build-cgroup/build-cgroup.ts";
import type { ImageBuilder } from "./buildkit/builder.ts";
import { firstReachableAddress } from "./control-plane/advertised-address.ts";
import { confirmLease } from "./control-plane/lease-confirmation.ts";
import { Orchestrators } from "./control-plane/orchestrator-client.ts";
import { Registration } from "./control-plane/registration.ts";
import { workerService } from "./control-plane/service.ts";
import { bootId, ownRunsFolder, type RunsFolder, removeLeftovers } from "./crash-recovery.ts";
import { DiskWatch } from "./disk/disk-watch.ts";
import { CheckoutCache } from "./git/checkout-cache.ts";
import { RunDrained } from "./job/cancellation.ts";
import { Afterwork } from "./pipeline/background-work.ts";
import { runPipeline } from "./pipeline/run-pipeline.ts";
import { findBuilder, watchDisks } from "./prepare-builder.ts";
import type { RegistryAuthenticator } from "./registry/access.ts";
import { Runs } from "./runs/runs.ts";
import type { buildSettings } from "./settings/build.ts";
import { madeWorkerId, type WorkerSettings } from "./settings/config.ts";

const TAG_TIMEOUT_MS = 5000;
const KEEP_FINISHED_MS = 24 * 3_600_000;
const KEEP_FINISHED_COUNT = 100;
/** Whoever reaches the broker has the job's message, if there is one, after a small part of this. */
const REPORT_UNCALLED_MS = 120_000;
const STOP_GRACE_MS = 500;
/** With this worker its outcomes are gone, so it waits a little for an orchestrator that has just been cut off. */
const HAND_OVER_TIMEOUT_MS = 10_000;
/** How long a call may be under way from an orchestrator that found this worker free just before it left. */
const LATE_CALLS_MS = 500;

export interface WorkerParts {
  readonly settings: Pick<
    WorkerSettings,
    | "orchestratorAddresses"
    | "workerId"
    | "region"
    | "slots"
    | "advertise"
    | "workDir"
    | "gitBaseUrl"
    | "gitAllowedHosts"
    | "resultLogLines"
    | keyof typeof buildSettings
  >;
  readonly listen: HostPort;
  readonly tls: TlsFiles | undefined;
  readonly authenticator: RegistryAuthenticator;
  /** What child processes may be given parts of. */
  readonly environment: Environment;
  readonly logger: Logger;
}

export interface Worker {
  /** Takes nothing new and lets what runs go on until it ends, `timeoutMs` has passed or `hurry` aborts; then leaves. */
  stop(timeoutMs: number, hurry: AbortSignal): Promise<void>;
}

/**
 * Comes back as soon as the worker serves; it registers once there is something to build with, and goes on looking until then.
 * @throws Error when the address cannot be listened on or the work folder cannot be made.
 */
export async function startWorker(parts: WorkerParts): Promise<Worker> {
  const { settings, logger, tls } = parts;
  const identity = { workerId: settings.workerId ?? madeWorkerId(), incarnation: randomUUID() };
  const runsFolder = await makeRunsFolder(settings.workDir, identity.incarnation);
  const checkoutCache = new CheckoutCache({
    workDir: settings.workDir,
    limitBytes: settings.checkoutCacheBytes,
    bootId: await bootId(),
  });

  const orchestrators = new Orchestrators(settings.orchestratorAddresses, tls, logger);
  const stopping = new AbortController();
  const afterwork = new Afterwork(logger);
  const reserve = { bytes: settings.diskReserveBytes, inodes: settings.inodeReserve };
  const disks = new DiskWatch({ reserve, logger });
  const buildCgroup = settings.buildCgroup === undefined ? undefined : new BuildCgroup(settings.buildCgroup);
  if (buildCgroup) {
    logger.info({ group: buildCgroup.path, limits: buildCgroup.describe() }, "builds run in a control group");
  }
  const builder = Promise.withResolvers<ImageBuilder>();
  const runs = new Runs({
    slots: settings.slots,
    logLimits: {
      keptBytes: settings.logLimitBytes,
      tail: { lines: settings.resultLogLines, bytes: RESULT_LOG_BYTES },
    },
    keepFinishedMs: KEEP_FINISHED_MS,
    keepFinishedCount: KEEP_FINISHED_COUNT,
    reportUncalledMs: REPORT_UNCALLED_MS,
    logger,
    refusal: () => disks.refusal,
    execute: async (job, reporter, signal) => {
      const git = { baseUrl: settings.gitBaseUrl, allowedHosts: settings.gitAllowedHosts };
      const { gitTimeoutMs: timeoutMs, repositoryBytes } = settings;
      const pipeline = {
        workDir: settings.workDir,
        incarnation: identity.incarnation,
        git,
        cloneLimits: { timeoutMs, repositoryBytes },
        checkoutCache,
        builder: await builder.promise,
        authenticator: parts.authenticator,
        hostEnvironment: parts.environment,
        buildNetwork: settings.buildNetwork,
        buildCgroup,
        cacheSharing: settings.cacheSharing,
        cacheRepository: settings.cacheRepository,
        afterwork,
        disks,
        tagTimeoutMs: TAG_TIMEOUT_MS,
      };
      const confirm = (asked: AbortSignal) =>
        confirmLease(orchestrators, identity, job, () => runs.isForsaken(job), asked);
      return runPipeline(job, pipeline, reporter, confirm, signal);
    },
  });
  let address: HostPort | undefined;
  let capabilities: Capabilities | undefined;
  const registration = new Registration(
    orchestrators,
    () => ({
      ...identity,
      region: settings.region,
      address: address ? formatHostPort(address) : "",
      slots: settings.slots,
      version: VERSION,
      capabilities,
      runs: [...runs.held()],
    }),
    logger,
  );
  const server = await serveRpc(
    [workerService(identity, runs, logger, registration.pinged)],
    parts.listen,
    tls,
  );
  address = settings.advertise ?? firstReachableAddress({ host: parts.listen.host, port: server.port });
  const { workerId: worker_id, incarnation } = identity;
  const advertised = formatHostPort(address);
  logger.info({ worker_id, incarnation, port: server.port, advertised }, "worker listens");

  const registered = findBuilder(parts, stopping.signal).then(async (found) => {
    if (!found) return;
    await removeLeftovers({ ...parts, workDir: settings.workDir, builder: found, checkoutCache });
    await watchDisks(disks, found, checkoutCache, { home: runsFolder.path, parts, signal: stopping.signal });
    builder.resolve(found);
    capabilities = { ...found.capabilities, platforms: [...found.capabilities.platforms] };
    await Promise.all([disks.keep(stopping.signal), registration.keep(stopping.signal)]);
  });
  return {
    async stop(timeoutMs, hurry) {
      const drained = runs.drain();
      await Promise.race([drained, sleep(timeoutMs, hurry).catch(() => undefined)]);
      runs.endAll(new RunDrained());
      await drained;
      await afterwork.stop();
      await Promise.race([runs.acknowledged(), sleep(HAND_OVER_TIMEOUT_MS)]);
      stopping.abort(new Error("the worker stops"));
      await registered;
      await registration
        .deregister()
        .catch((error: unknown) => logger.warn({ err: error }, "could not deregister"));
      // A refusal gives the job to another worker at once; a closed port would count as a lost worker, and an attempt.
      await sleep(LATE_CALLS_MS);
      await server.stop(STOP_GRACE_MS);
      orchestrators.close();
      await runsFolder.remove();
    },
  };
}

/** @throws Error naming the folder. */
async function makeRunsFolder(workDir: string, incarnation: string): Promise<RunsFolder> {
  try {
    return await ownRunsFolder(workDir, incarnation);
  } catch (error) {
    throw new Error(`the work folder ${workDir} cannot be made: ${error}`, { cause: error });
  }
}
