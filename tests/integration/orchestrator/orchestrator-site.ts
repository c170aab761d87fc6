/** An orchestrator in the process of the test, with RabbitMQ, Redis and workers over real gRPC. */
import { randomUUID } from "node:crypto";
import { type ChannelModel, connect } from "amqplib";
import pino from "pino";
import { adminAccess, loadOrchestratorSettings } from "../../../src/orchestrator/config.ts";
import { RedisLeases } from "../../../src/orchestrator/leases/redis.ts";
import { keepLogs, logMemoryMs } from "../../../src/orchestrator/logs/log-keeping.ts";
import { startOrchestrator } from "../../../src/orchestrator/orchestrator.ts";
import { RabbitMqQueue } from "../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { RedisJobRecords } from "../../../src/orchestrator/records/redis.ts";
import { RedisLogPlaces } from "../../../src/orchestrator/records/redis-log-places.ts";
import type { RedisTimeouts } from "../../../src/orchestrator/redis/client.ts";
import type { JobResult } from "../../../src/shared/job.ts";
import { ADMIN_ENV } from "../../support/blacktree/admin-api.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { PATIENT } from "../../support/servers/redis.ts";

export interface OrchestratorSite {
  readonly grpcPort: number;
  readonly adminUrl: string;
  readonly jobQueue: string;
  /** Lines of the orchestrator's log, from level info on. */
  readonly log: readonly string[];
  /** Adds a worker that serves gRPC on this port. */
  addWorker(
    workerId: string,
    incarnation: string,
    port: number,
    options?: {
      readonly slots?: number;
      readonly region?: string;
      readonly capabilities?: readonly string[];
    },
  ): Promise<void>;
  /** Submits a job; `fields` are added to its message. */
  submit(jobId: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Resolves with the next result that no other call waits for. */
  nextResult(): Promise<JobResult>;
  /** Submits a job and resolves with the next result. */
  run(jobId: string): Promise<JobResult>;
  stop(): Promise<void>;
}

export async function startOrchestratorSite(
  servers: {
    /** The orchestrator's; the site itself uses `clientUrl`. */
    readonly rabbitMqUrl: string;
    readonly clientUrl?: string;
    readonly redisUrl: string;
    readonly redisTimeouts?: RedisTimeouts;
    /** Of the Dispatcher. */
    readonly pollIntervalMs?: number;
  },
  environment: Readonly<Record<string, string>> = {},
): Promise<OrchestratorSite> {
  const { rabbitMqUrl, clientUrl = rabbitMqUrl, redisUrl, pollIntervalMs } = servers;
  const { redisTimeouts: timeouts = PATIENT } = servers;
  const log: string[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void log.push(line) });
  const folder = await makeTempDir("logs");
  const { values: settings } = loadOrchestratorSettings({
    flags: {},
    environment: {
      RABBITMQ_URL: rabbitMqUrl,
      REDIS_URL: redisUrl,
      BLACKTREE_ADMIN_LISTEN: "127.0.0.1:0",
      BLACKTREE_LOG_DIR: folder.path,
      // A worker is not lost because the machine is busy.
      BLACKTREE_LEASE_TTL: "60s",
      ...ADMIN_ENV,
      ...environment,
    },
  });
  const { leaseTtlMs, jobMemoryMs } = settings;
  const inRedis = { url: redisUrl, keyPrefix: settings.keyPrefix, timeouts };
  const names = { jobQueue: `${randomUUID()}.build`, resultQueue: `${randomUUID()}.results` };
  const queue = new RabbitMqQueue({ urls: [rabbitMqUrl], ...names, logger });
  const leases = new RedisLeases({ ...inRedis, leaseTtlMs, jobMemoryMs, settleMs: 0, logger });
  const orchestrator = await startOrchestrator({
    queue,
    leases,
    records: new RedisJobRecords({ ...inRedis, jobMemoryMs }),
    logs: keepLogs(settings, new RedisLogPlaces({ ...inRedis, memoryMs: logMemoryMs(settings) }), logger),
    names: { queue: "rabbitmq", leases: "redis" },
    settings,
    admin: adminAccess(settings),
    grpcListen: { host: "127.0.0.1", port: 0 },
    tls: undefined,
    logger,
    pollIntervalMs,
  });
  let model: ChannelModel | undefined;
  try {
    await waitFor(() => queue.isReady && leases.isReady, { timeoutMs: 60_000, what: "the orchestrator" });
    model = await connect(clientUrl);
    const channel = await model.createChannel();
    const waiting: ((result: JobResult) => void)[] = [];
    /** Results that arrived before a call waited for them. */
    const arrived: JobResult[] = [];
    const onResult = (body: Buffer) => {
      const result = JSON.parse(body.toString()) as JobResult;
      const resolve = waiting.shift();
      if (resolve) resolve(result);
      else arrived.push(result);
    };
    await channel.consume(names.resultQueue, (message) => void (message && onResult(message.content)), {
      noAck: true,
    });
    const connected = model;
    const submit = (jobId: string, fields: Readonly<Record<string, unknown>> = {}) => {
      const job = {
        repo_url: "owner/name",
        branch: "main",
        deployment_version: "v1",
        aws_account: "123456789012",
        ecr_repo: "images",
        region: "us-east-1",
        ...fields,
      };
      channel.sendToQueue(names.jobQueue, Buffer.from(JSON.stringify(job)), { messageId: jobId });
    };
    const nextResult = () => {
      const first = arrived.shift();
      return first ? Promise.resolve(first) : new Promise<JobResult>((resolve) => waiting.push(resolve));
    };
    return {
      grpcPort: orchestrator.grpcPort,
      adminUrl: `http://127.0.0.1:${orchestrator.adminPort}`,
      jobQueue: names.jobQueue,
      log,
      async addWorker(
        workerId,
        incarnation,
        port,
        { slots = 1, region = "us-east-1", capabilities = [] } = {},
      ) {
        const address = `127.0.0.1:${port}`;
        const worker = { workerId, incarnation, region, address, slots, version: "1" };
        await leases.register({ ...worker, capabilities, runs: [] });
      },
      submit,
      nextResult,
      run(jobId) {
        const result = nextResult();
        submit(jobId);
        return result;
      },
      async stop() {
        await orchestrator.stop();
        await connected.close();
        await folder.remove();
      },
    };
  } catch (error) {
    await orchestrator.stop();
    await model?.close();
    await folder.remove();
    throw error;
  }
}
