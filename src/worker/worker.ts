/** Puts one worker together: gRPC service, registration, runs and pipeline. */
import { randomUUID } from "node:crypto";
import { sleep } from "../shared/abort.ts";
import type { Environment } from "../shared/env.ts";
import type { Logger } from "../shared/logging.ts";
import { formatRpcAddress, type RpcAddress } from "../shared/rpc/address.ts";
import { reachableAddress } from "../shared/rpc/advertised-address.ts";
import type { Capabilities, WorkerInfo } from "../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { serveRpc } from "../shared/rpc/server.ts";
import type { TlsFiles } from "../shared/rpc/tls.ts";
import type { ServiceState } from "../shared/service-manager.ts";
import { RESULT_LOG_BYTES } from "../shared/settings/common.ts";
import { VERSION } from "../shared/version.ts";
import { BuildCgroup } from "./build-cgroup/build-cgroup.ts";
import { BuilderWatch } from "./builder-watch.ts";
import type { ImageBuilder } from "./buildkit/builder.ts";
import { endpointOf } from "./buildkit/builders/endpoint.ts";
import { confirmLease } from "./control-plane/lease-confirmation.ts";
import { Orchestrators } from "./control-plane/orchestrator-client.ts";
import { Registration } from "./control-plane/registration.ts";
import { type WorkerIdentity, workerService } from "./control-plane/service.ts";
import { bootId, claimRunsFolder, type RunsFolder, recoverFromCrashes } from "./crash-recovery.ts";
import { DiskWatch } from "./disk/disk-watch.ts";
import { freeSpaceAt } from "./disk/free-space.ts";
import { CheckoutCache } from "./git/checkout-cache.ts";
import { RunDrained } from "./job/cancellation.ts";
import type { PipelineJob } from "./job/job.ts";
import { DEFAULT_RETRY } from "./job/retry.ts";
import { MachineLoadMeter } from "./machine-load.ts";
import { BackgroundWork } from "./pipeline/background-work.ts";
import type { RunReporter } from "./pipeline/pipeline-parts.ts";
import type { RunEnd } from "./pipeline/run-end.ts";
import { runPipeline } from "./pipeline/run-pipeline.ts";
import type { LeaseConfirmation } from "./pipeline/version-tag.ts";
import { detect, findBuilder, watchDisks } from "./prepare-builder.ts";
import { awaitCredentials } from "./prepare-credentials.ts";
import { childEnvironment } from "./process/child-environment.ts";
import type { RegistryAuthenticator } from "./registry/access.ts";
import type { BaseLoginSource } from "./registry/base-logins.ts";
import { Journals } from "./runs/journals.ts";
import { type Execute, Runs } from "./runs/runs.ts";
import type { buildSettings } from "./settings/build.ts";
import { generatedWorkerId, type WorkerSettings } from "./settings/config.ts";
import { WorkerState } from "./worker-state.ts";

const TAG_TIMEOUT_MS = 5000;
const KEEP_FINISHED_MS = 24 * 3_600_000;
const KEEP_FINISHED_COUNT = 100;
/** An orchestrator that reaches the broker gets the job's message, if it still exists, well within this time. */
const ABANDON_AFTER_MS = 120_000;
const STOP_GRACE_MS = 500;
/**
 * Files of a checkout, and of its .git, get the modes that git records (644, 755): images copy them, and the build cache
 * compares them. Folders of the worker have their modes in the code (0700), so this makes no file readable to others.
 */
const CHECKOUT_UMASK = 0o022;
/** Outcomes are lost when the worker exits, so it waits this long for an orchestrator that has just lost contact. */
const HAND_OVER_TIMEOUT_MS = 10_000;
/** Time for calls to arrive from an orchestrator that saw this worker free just before it deregistered. */
const LATE_CALLS_MS = 500;

export interface WorkerParts {
  readonly settings: Pick<
    WorkerSettings,
    | "workerId"
    | "labels"
    | "region"
    | "slots"
    | "advertise"
    | "workDir"
    | "gitBaseUrl"
    | "gitAllowedHosts"
    | "resultLogLines"
    | "registry"
    | keyof typeof buildSettings
  > & { readonly orchestratorAddresses: readonly RpcAddress[] };
  readonly listen: RpcAddress;
  readonly tls: TlsFiles | undefined;
  readonly authenticator: RegistryAuthenticator;
  readonly baseLogins: readonly BaseLoginSource[];
  /** If it is not given, the worker looks for one until there is one. */
  readonly builder?: ImageBuilder;
  /** Child processes get the parts that child-environment.ts names. */
  readonly environment: Environment;
  readonly logger: Logger;
}

export interface Worker {
  /** Resolves when the worker has registered for the first time. */
  readonly registered: Promise<void>;
  describe(): ServiceState;
  /**
   * Accepts no new runs, lets those under way continue until they end, `timeoutMs` has passed or `stopNow` aborts, and
   * then deregisters.
   */
  stop(timeoutMs: number, stopNow: AbortSignal): Promise<void>;
}

/** What the runs of one worker share on its host. */
interface Host {
  readonly checkoutCache: CheckoutCache;
  readonly disks: DiskWatch;
  readonly buildCgroup: BuildCgroup | undefined;
  readonly backgroundWork: BackgroundWork;
  readonly builders: BuilderWatch;
}

/**
 * Resolves as soon as the worker serves gRPC. It registers once Docker or BuildKit is usable and, for ECR, the host has AWS
 * credentials; it keeps looking for both until then.
 * @throws Error when it cannot listen on the address or create the work folder.
 */
export async function startWorker(parts: WorkerParts): Promise<Worker> {
  const { settings, logger, tls } = parts;
  process.umask(CHECKOUT_UMASK);
  const identity = { workerId: settings.workerId ?? generatedWorkerId(), incarnation: randomUUID() };
  const runsFolder = await makeRunsFolder(settings.workDir, identity.incarnation);
  const offer: Offer = { address: undefined, capabilities: undefined };
  const host = await prepareHost(parts, runsFolder.path, () => void renewOffer());
  const orchestrators = new Orchestrators(settings.orchestratorAddresses, tls, logger);
  const { totalBytes: diskBytes } = await freeSpaceAt(runsFolder.path);
  const journals = new Journals({ folder: runsFolder.logs, diskBytes, logger });
  const runs: Runs = makeRuns(parts, host, journals, (job, reporter, signal) => {
    const confirm = (asked: AbortSignal) =>
      confirmLease(orchestrators, identity, job, () => runs.isAbandoned(job), asked);
    return execute(parts, host, identity, { job, reporter, confirm, signal });
  });
  const state = new WorkerState({ runs, disks: host.disks });
  const describeWorker = () => registrationInfo(parts, identity, runs, offer);
  const registration = new Registration(orchestrators, describeWorker, state, logger);
  const renewOffer = async () => {
    offer.capabilities = capabilitiesOf(await host.builders.builder());
    registration.renew();
  };
  const { checkoutCache } = host;
  const load = new MachineLoadMeter({ workDir: settings.workDir, checkoutCache, logger });
  const service = workerService({
    identity,
    runs,
    logger,
    beforeJob: () => host.builders.beforeJob(),
    load: () => load.latest(),
    onPing: registration.pinged,
  });
  const server = await serveRpc([service], parts.listen, tls);
  offer.address = settings.advertise ?? reachableAddress(parts.listen, server);
  const { workerId: worker_id, incarnation } = identity;
  const advertised = formatRpcAddress(offer.address);
  // On a socket file there is no port.
  logger.info({ worker_id, incarnation, port: server.port || undefined, advertised }, "worker listens");

  const stopping = new AbortController();
  const builderFound = parts.builder
    ? Promise.resolve(parts.builder)
    : findBuilder({ ...parts, state }, stopping.signal);
  const prepared = builderFound.then(async (builder) => {
    if (!builder) return;
    const { signal } = stopping;
    const { disks, builders } = host;
    await awaitCredentials({ ...parts, state }, signal);
    if (signal.aborted) return;
    state.preparing("cleaning up after earlier workers");
    await recoverFromCrashes({ ...parts, workDir: settings.workDir, builder, checkoutCache });
    builders.begin(builder);
    await watchDisks(
      disks,
      () => builders.builder(),
      { checkoutCache, journals },
      {
        home: runsFolder.path,
        parts,
        signal,
      },
    );
    offer.capabilities = capabilitiesOf(builder);
    await Promise.all([disks.monitor(signal), builders.monitor(signal), registration.keep(signal)]);
  });
  return {
    registered: state.firstRegistration,
    describe: () => state.describe(),
    async stop(timeoutMs, stopNow) {
      state.draining(timeoutMs);
      await endRuns(runs, timeoutMs, stopNow);
      await host.backgroundWork.stop();
      await Promise.race([runs.acknowledged(), sleep(HAND_OVER_TIMEOUT_MS)]);
      stopping.abort(new Error("the worker stops"));
      await prepared;
      await registration
        .deregister()
        .catch((error: Error) => logger.warn({ reason: error.message }, "could not deregister"));
      // A refusal sends the job to another worker at once; a closed port would count as a lost worker and cost an attempt.
      await sleep(LATE_CALLS_MS);
      await server.stop(STOP_GRACE_MS);
      orchestrators.close();
      await journals.close();
      await runsFolder.remove();
    },
  };
}

const WITHOUT_REUSE_KEY =
  "BLACKTREE_REUSE_KEY is not set: after a loss of Redis's data, versions that exist are built again";

function capabilitiesOf({ capabilities }: ImageBuilder): Capabilities {
  return { ...capabilities, platforms: [...capabilities.platforms] };
}

async function prepareHost(parts: WorkerParts, home: string, onNewCapabilities: () => void): Promise<Host> {
  const { settings, logger, environment } = parts;
  const { workDir, checkoutCacheBytes: limitBytes } = settings;
  const reserve = { bytes: settings.diskReserveBytes, inodes: settings.inodeReserve };
  const buildCgroup = settings.buildCgroup === undefined ? undefined : new BuildCgroup(settings.buildCgroup);
  if (!settings.reuseKeys) logger.warn(WITHOUT_REUSE_KEY);
  if (buildCgroup) {
    logger.info({ group: buildCgroup.path, limits: buildCgroup.describe() }, "builds run in a control group");
  }
  return {
    checkoutCache: new CheckoutCache({ workDir, limitBytes, bootId: await bootId() }),
    disks: new DiskWatch({ reserve, logger }),
    buildCgroup,
    backgroundWork: new BackgroundWork(logger),
    builders: new BuilderWatch({
      endpoint: endpointOf(settings.builder, environment),
      detect: (signal) => detect(parts, signal),
      access: { cwd: home, environment: childEnvironment(environment, home) },
      logger,
      onNewCapabilities,
    }),
  };
}

function makeRuns(
  { settings, logger }: WorkerParts,
  { disks, builders }: Host,
  journals: Journals,
  execute: Execute,
): Runs {
  return new Runs({
    slots: settings.slots,
    journals,
    logLimits: {
      keptBytes: settings.logLimitBytes,
      tail: { lines: settings.resultLogLines, bytes: RESULT_LOG_BYTES },
    },
    keepFinishedMs: KEEP_FINISHED_MS,
    keepFinishedCount: KEEP_FINISHED_COUNT,
    abandonAfterMs: ABANDON_AFTER_MS,
    logger,
    refusal: () => builders.refusal ?? disks.refusal,
    execute,
  });
}

interface RunToExecute {
  readonly job: PipelineJob;
  readonly reporter: RunReporter;
  readonly confirm: LeaseConfirmation;
  readonly signal: AbortSignal;
}

async function execute(
  { settings, authenticator, baseLogins, environment }: WorkerParts,
  { builders, ...host }: Host,
  { incarnation }: WorkerIdentity,
  { job, reporter, confirm, signal }: RunToExecute,
): Promise<RunEnd> {
  const pipeline = {
    ...host,
    workDir: settings.workDir,
    incarnation,
    git: { baseUrl: settings.gitBaseUrl, allowedHosts: settings.gitAllowedHosts },
    cloneLimits: {
      timeoutMs: settings.gitTimeoutMs,
      silenceTimeoutMs: settings.gitSilenceTimeoutMs,
      repositoryBytes: settings.repositoryBytes,
      submodules: settings.submodules,
      submoduleDeclarations: settings.submoduleDeclarations,
      settingsFileBytes: settings.gitSettingsFileBytes,
    },
    gitCredentials: { users: settings.gitUsers ?? {}, tokenScope: settings.gitTokenScope },
    builder: await builders.builder(),
    builderProblem: () => builders.problem(),
    authenticator,
    baseLogins,
    hostEnvironment: environment,
    buildNetwork: settings.buildNetwork,
    cacheSharing: settings.cacheSharing,
    cacheRepository: settings.cacheRepository,
    reuseKeys: settings.reuseKeys,
    tagTimeoutMs: TAG_TIMEOUT_MS,
    retry: { ...DEFAULT_RETRY, deadlineMs: job.deadlineMs },
  };
  return runPipeline(job, pipeline, reporter, confirm, signal);
}

/** Known only after the start: the address once the server listens, the capabilities once there is a builder. */
interface Offer {
  address: RpcAddress | undefined;
  capabilities: Capabilities | undefined;
}

function registrationInfo(
  { settings }: WorkerParts,
  identity: WorkerIdentity,
  runs: Runs,
  offer: Offer,
): WorkerInfo {
  return {
    ...identity,
    region: settings.region,
    address: offer.address ? formatRpcAddress(offer.address) : "",
    slots: settings.slots,
    version: VERSION,
    capabilities: offer.capabilities,
    runs: [...runs.held()],
    labels: settings.labels ?? {},
    keepsId: settings.workerId !== undefined,
  };
}

/** Accepts no new runs; those still running after `timeoutMs`, or when `stopNow` aborts, are ended. */
async function endRuns(runs: Runs, timeoutMs: number, stopNow: AbortSignal): Promise<void> {
  const drained = runs.drain();
  await Promise.race([drained, sleep(timeoutMs, stopNow).catch(() => undefined)]);
  runs.endAll(new RunDrained());
  await drained;
}

/** @throws Error that names the folder. */
async function makeRunsFolder(workDir: string, incarnation: string): Promise<RunsFolder> {
  try {
    return await claimRunsFolder(workDir, incarnation);
  } catch (error) {
    throw new Error(`cannot create the work folder ${workDir}: ${error}`, { cause: error });
  }
}
