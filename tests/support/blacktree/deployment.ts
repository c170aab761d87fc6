/** Compiled orchestrators and workers on shared backends. Each deployment has a separate virtual host and database. */

import { join } from "node:path";
import type { Channel, ChannelModel, ConfirmChannel, GetMessage, Options } from "amqplib";
import { connect } from "amqplib";
import type { JobEvent, JobResult } from "../../../src/shared/job.ts";
import { startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import type { Backends } from "../servers/backends.ts";
import type { QueueTotals } from "../servers/rabbitmq.ts";
import { redisContents } from "../servers/redis-contents.ts";
import { ADMIN_ENV, apiRequest } from "./admin-api.ts";
import { type Binaries, compiledBinaries } from "./binaries.ts";

export interface OrchestratorProcess {
  readonly process: TestProcess;
  readonly apiUrl: string;
  readonly grpcAddress: string;
}

export interface WorkerProcess {
  readonly process: TestProcess;
  readonly workDir: string;
  readonly id: string;
  readonly incarnation: string;
  readonly address: string;
}

/** Orchestrators and workers are started from `binaries` if given, else from the current sources. */
export interface Deployment {
  /** The test's channel; it is open while the broker is available. */
  readonly amqp: Channel;
  readonly vhost: string;
  /** Settings that name this deployment's servers, for a program that the test starts itself. */
  readonly orchestratorEnv: Readonly<Record<string, string>>;
  /** Resolves when the orchestrator is ready. */
  startOrchestrator(env?: Record<string, string>, binaries?: Binaries): Promise<OrchestratorProcess>;
  /** Resolves when the orchestrator listens; the servers behind it may be absent. */
  launchOrchestrator(env?: Record<string, string>, binaries?: Binaries): Promise<OrchestratorProcess>;
  /** Resolves when the worker is registered. */
  startWorker(
    orchestrator: Pick<OrchestratorProcess, "grpcAddress">,
    env?: Record<string, string>,
    binaries?: Binaries,
  ): Promise<WorkerProcess>;
  /** Resolves when the worker listens; no orchestrator has to run yet. */
  launchWorker(
    orchestrator: Pick<OrchestratorProcess, "grpcAddress">,
    env?: Record<string, string>,
    binaries?: Binaries,
  ): Promise<WorkerProcess>;
  /** Publishes a message to the job queue; resolves when the broker has confirmed it. */
  publish(body: string | Buffer | object, options?: Options.Publish): Promise<void>;
  /** Takes the next message from a queue. */
  next(queue: string, timeoutMs?: number): Promise<GetMessage>;
  nextResult(timeoutMs?: number): Promise<JobResult>;
  /** Collects all messages to `jobs.events` from now on, in order of arrival. Needs a running orchestrator. */
  watchEvents(): Promise<readonly JobEvent[]>;
  /** Number of messages ready in the queue, without the unacked ones. */
  depth(queue: string): Promise<number>;
  queueTotals(): Promise<QueueTotals[]>;
  /** The output of all programs of this deployment. */
  printed(): readonly string[];
  /** Every key of this deployment's Redis database with its value, as text. */
  redisContents(): Promise<string>;
  /** Imitates a Redis that has lost all its data. */
  flushRedis(): Promise<void>;
  /** Renews the test's connection after a broker outage. */
  reconnect(): Promise<void>;
  stop(): Promise<void>;
}

export interface ShownWorker {
  readonly id: string;
  readonly region: string;
  readonly status: string;
  readonly refusal: string | null;
  readonly jobs: readonly string[];
  readonly capabilities: readonly string[];
  /** As of its last answer to a ping. */
  readonly load: object | null;
}

/** The workers as the admin API shows them. */
export async function shownWorkers({ apiUrl }: Pick<OrchestratorProcess, "apiUrl">): Promise<ShownWorker[]> {
  const response = await apiRequest(apiUrl, "/api/v1/workers");
  return ((await response.json()) as { items: ShownWorker[] }).items;
}

/** A program that starts, a worker that becomes free, a state that is reached: a busy machine may need this long. */
const STEP_TIMEOUT_MS = 60_000;

/** Resolves when the worker is free and has no job. */
export async function untilFree(
  orchestrator: Pick<OrchestratorProcess, "apiUrl">,
  worker: Pick<WorkerProcess, "id">,
): Promise<void> {
  const isFree = ({ id, status, jobs }: ShownWorker) =>
    id === worker.id && status === "FREE" && jobs.length === 0;
  await waitFor(async () => (await shownWorkers(orchestrator)).some(isFree), {
    timeoutMs: STEP_TIMEOUT_MS,
    what: `${worker.id} to be free`,
  });
}

/** Resolves when the worker has answered a ping: before that, a registered worker gets no job. */
export async function untilPinged(
  orchestrator: Pick<OrchestratorProcess, "apiUrl">,
  worker: Pick<WorkerProcess, "id">,
): Promise<ShownWorker> {
  const isPinged = ({ id, status, load }: ShownWorker) =>
    id === worker.id && status !== "LOST" && load !== null;
  return waitFor(async () => (await shownWorkers(orchestrator)).find(isPinged), {
    timeoutMs: STEP_TIMEOUT_MS,
    what: `${worker.id} to be pinged`,
  });
}

/** The answer of `/readyz`. */
export async function readiness({ apiUrl }: Pick<OrchestratorProcess, "apiUrl">): Promise<Response> {
  return fetch(`${apiUrl}/readyz`);
}

export async function untilReady(orchestrator: Pick<OrchestratorProcess, "apiUrl">): Promise<void> {
  await waitFor(async () => (await readiness(orchestrator)).ok, {
    timeoutMs: STEP_TIMEOUT_MS,
    what: "/readyz to answer 200",
  });
}

export interface ShownJob {
  readonly state: string;
  readonly events: readonly JobEvent[];
  readonly result: JobResult | null;
}

/** A job as the admin API shows it; undefined while the id is unknown. */
export async function shownJob(
  { apiUrl }: Pick<OrchestratorProcess, "apiUrl">,
  jobId: string,
): Promise<ShownJob | undefined> {
  const response = await apiRequest(apiUrl, `/api/v1/jobs/${jobId}`);
  return response.ok ? ((await response.json()) as ShownJob) : undefined;
}

/** Resolves when the job has reached this state, or passed it. */
export async function untilState(
  orchestrator: Pick<OrchestratorProcess, "apiUrl">,
  jobId: string,
  state: JobEvent["state"],
): Promise<void> {
  const hasReached = async () =>
    (await shownJob(orchestrator, jobId))?.events.some((event) => event.state === state);
  await waitFor(hasReached, { timeoutMs: STEP_TIMEOUT_MS, what: `job ${jobId} to be ${state}` });
}

/** Shared by all workers, as in an installation. */
export const REUSE_KEY = "5a".repeat(32);

/** A worker that answers no ping for some seconds, on a busy machine, keeps its jobs. */
const LONG_LEASE = { BLACKTREE_PING_INTERVAL: "1s", BLACKTREE_LEASE_TTL: "10s" };

/** For orchestrators of tests that wait for the end of a lease: as short as a busy machine allows. */
export const SHORT_LEASE = { BLACKTREE_PING_INTERVAL: "500ms", BLACKTREE_LEASE_TTL: "5s" };

let deployments = 0;

/** A message as JSON. */
export function bodyOf<Body>(message: Pick<GetMessage, "content">): Body {
  return JSON.parse(message.content.toString()) as Body;
}

export interface DeploymentOptions {
  /** An existing one; by default each deployment has a new one. */
  vhost?: string;
  /** The broker is not available for a virtual host or a connection now; `reconnect` is called later. */
  isBrokerAbsent?: boolean;
}

export async function startDeployment(
  backends: Backends,
  options: DeploymentOptions = {},
): Promise<Deployment> {
  const { rabbitmq, redis, aws, git, docker } = backends;
  const number = deployments++;
  const vhost = options.vhost ?? `test-${crypto.randomUUID()}`;
  const isOwnVhost = options.vhost === undefined;
  if (isOwnVhost) await rabbitmq.addVhost(vhost);
  const rabbitmqUrl = rabbitmq.urlOf(vhost);
  let connection: ChannelModel | undefined;
  let channel: ConfirmChannel;
  if (!options.isBrokerAbsent) await reconnect();
  const binaries = await compiledBinaries();
  const processes: TestProcess[] = [];
  const folder = await makeTempDir("e2e");

  const orchestratorEnv = {
    RABBITMQ_URL: rabbitmqUrl,
    REDIS_URL: `${redis.url}/${number}`,
    BLACKTREE_GRPC_LISTEN: "127.0.0.1:0",
    BLACKTREE_ADMIN_LISTEN: "127.0.0.1:0",
    ...ADMIN_ENV,
    BLACKTREE_GIT_BASE_URL: git.baseUrl,
    ...LONG_LEASE,
  };

  async function reconnect(): Promise<void> {
    connection = await connect(rabbitmqUrl);
    // A test that stops its broker handles the lost connection itself.
    connection.on("error", () => undefined);
    channel = await connection.createConfirmChannel();
    channel.on("error", () => undefined);
  }

  async function launchOrchestrator(
    env: Record<string, string> = {},
    of = binaries,
  ): Promise<OrchestratorProcess> {
    const process = startProcess([of.orchestrator], {
      cwd: folder.path,
      env: {
        BLACKTREE_LOG_DIR: join(folder.path, `orchestrator-${processes.length}`),
        ...orchestratorEnv,
        ...env,
      },
    });
    processes.push(process);
    const fields = await loggedFields<{ admin_port: number; grpc_port: number }>(
      process,
      "orchestrator listens",
    );
    return {
      process,
      apiUrl: `http://127.0.0.1:${fields.admin_port}`,
      grpcAddress: `127.0.0.1:${fields.grpc_port}`,
    };
  }

  async function launchWorker(
    orchestrator: Pick<OrchestratorProcess, "grpcAddress">,
    env: Record<string, string> = {},
    of = binaries,
  ): Promise<WorkerProcess> {
    const workDir = env.BLACKTREE_WORK_DIR ?? `${folder.path}/worker-${processes.length}`;
    const process = startProcess([of.worker], {
      cwd: folder.path,
      env: {
        ...aws.env(),
        ...docker.env(),
        BLACKTREE_ORCHESTRATOR_ADDR: orchestrator.grpcAddress,
        BLACKTREE_WORKER_LISTEN: "127.0.0.1:0",
        BLACKTREE_WORK_DIR: workDir,
        BLACKTREE_GIT_BASE_URL: git.baseUrl,
        BLACKTREE_REUSE_KEY: REUSE_KEY,
        ...env,
      },
    });
    processes.push(process);
    const listens = await loggedFields<{ worker_id: string; incarnation: string; advertised: string }>(
      process,
      "worker listens",
    );
    return {
      process,
      workDir,
      id: listens.worker_id,
      incarnation: listens.incarnation,
      address: listens.advertised,
    };
  }

  return {
    get amqp() {
      return channel;
    },
    vhost,
    orchestratorEnv,
    launchOrchestrator,
    launchWorker,
    async startOrchestrator(env, of) {
      const orchestrator = await launchOrchestrator(env, of);
      await untilReady(orchestrator);
      return orchestrator;
    },
    async startWorker(orchestrator, env, of) {
      const worker = await launchWorker(orchestrator, env, of);
      await worker.process.waitForLine('"msg":"registered"', { timeoutMs: STEP_TIMEOUT_MS });
      return worker;
    },
    async publish(body, options = {}) {
      const content = Buffer.isBuffer(body)
        ? body
        : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
      channel.sendToQueue("jobs.build", content, { persistent: true, ...options });
      await channel.waitForConfirms();
    },
    next,
    async nextResult(timeoutMs) {
      return bodyOf<JobResult>(await next("jobs.results", timeoutMs));
    },
    async watchEvents() {
      const events: JobEvent[] = [];
      const { queue } = await channel.assertQueue("", { exclusive: true });
      await channel.bindQueue(queue, "jobs.events", "#");
      await channel.consume(queue, (message) => message && events.push(bodyOf<JobEvent>(message)), {
        noAck: true,
      });
      return events;
    },
    queueTotals: () => rabbitmq.queueTotals(vhost),
    depth: async (queue) => (await channel.checkQueue(queue)).messageCount,
    printed: () => processes.flatMap((process) => process.lines),
    redisContents: () => redisContents(orchestratorEnv.REDIS_URL),
    async flushRedis() {
      await redis.cli("-n", String(number), "FLUSHDB");
    },
    reconnect,
    async stop() {
      await Promise.all(processes.map((process) => process.stop()));
      await connection?.close().catch(() => undefined);
      // A test with a dedicated broker may end while that broker is down.
      if (isOwnVhost) await rabbitmq.deleteVhost(vhost).catch(() => undefined);
      await folder.remove();
    },
  };

  async function next(queue: string, timeoutMs = 90_000): Promise<GetMessage> {
    try {
      return await waitFor(async () => (await channel.get(queue, { noAck: true })) || undefined, {
        timeoutMs,
        what: `a message in ${queue}`,
      });
    } catch (error) {
      const printed = processes.map((process) => process.lines.slice(-25).join("\n")).join("\n----\n");
      throw new Error(`${error}\n${printed}`, { cause: error });
    }
  }
}

async function loggedFields<Fields>(process: TestProcess, message: string): Promise<Fields> {
  return JSON.parse(
    await process.waitForLine(`"msg":"${message}"`, { timeoutMs: STEP_TIMEOUT_MS }),
  ) as Fields;
}
