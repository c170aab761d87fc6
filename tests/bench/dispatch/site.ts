/** RabbitMQ, Redis and a worker for each side; the orchestrator is the compiled program. */
import { type ConfirmChannel, connect } from "amqplib";
import pino from "pino";
import { RedisLeases } from "../../../src/orchestrator/leases/redis.ts";
import { INCARNATION } from "../../integration/orchestrator/workers/worker-service.ts";
import { ADMIN_ENV } from "../../support/blacktree/admin-api.ts";
import { compiledBinaries } from "../../support/blacktree/binaries.ts";
import { untilReady } from "../../support/blacktree/deployment.ts";
import { startProcess, type TestProcess } from "../../support/machine/processes.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { startRabbitMq } from "../../support/servers/rabbitmq.ts";
import { startRedis } from "../../support/servers/redis.ts";
import { BLACKTREE_QUEUES, PLAIN_QUEUES } from "./queues.ts";

export const SIDES = ["plain", "blacktree"] as const;
export type Side = (typeof SIDES)[number];

/** Jobs that run at the same time, on both sides. */
export const SLOTS = 64;
const REGION = "us-east-1";
const START_TIMEOUT_MS = 60_000;

export interface DispatchSite {
  /** Submits jobs at once; resolves with the time until the last result, in ms. */
  run(side: Side, jobs: number): Promise<number>;
  stop(): Promise<void>;
}

export async function startSite(): Promise<DispatchSite> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const end of stops.toReversed()) await end();
  };
  try {
    return { run: await startParts(stops), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startParts(stops: (() => Promise<unknown>)[]): Promise<DispatchSite["run"]> {
  const rabbitmq = await startRabbitMq();
  stops.push(() => rabbitmq.stop());
  const redis = await startRedis();
  stops.push(() => redis.stop());
  const folder = await makeTempDir("bench");
  stops.push(() => folder.remove());
  const program = (command: readonly string[], env: Record<string, string> = {}): TestProcess => {
    const started = startProcess(command, { cwd: folder.path, env });
    stops.push(() => started.stop());
    return started;
  };

  const workers = {} as Record<Side, string>;
  for (const side of SIDES) {
    const worker = program(["bun", `${import.meta.dir}/no-op-worker.ts`, String(SLOTS)]);
    workers[side] = (await worker.waitForLine("port ", { timeoutMs: START_TIMEOUT_MS })).slice(
      "port ".length,
    );
  }
  const plain = program([
    "bun",
    `${import.meta.dir}/plain-dispatch.ts`,
    rabbitmq.url,
    workers.plain,
    String(SLOTS),
  ]);
  await plain.waitForLine("ready", { timeoutMs: START_TIMEOUT_MS });

  const { orchestrator } = await compiledBinaries();
  const blacktree = program([orchestrator], {
    RABBITMQ_URL: rabbitmq.url,
    REDIS_URL: redis.url,
    BLACKTREE_GRPC_LISTEN: "127.0.0.1:0",
    BLACKTREE_ADMIN_LISTEN: "127.0.0.1:0",
    BLACKTREE_LOG_DIR: `${folder.path}/logs`,
    ...ADMIN_ENV,
  });
  const listens = await blacktree.waitForLine('"msg":"orchestrator listens"', {
    timeoutMs: START_TIMEOUT_MS,
  });
  await untilReady({ apiUrl: `http://127.0.0.1:${JSON.parse(listens).admin_port}` });
  await register(redis.url, `127.0.0.1:${workers.blacktree}`);

  const client = await connect(rabbitmq.url);
  stops.push(() => client.close());
  const channel = await client.createConfirmChannel();
  const results = new Results(channel);
  await results.consume();
  return async (side, jobs) => {
    const ids = Array.from({ length: jobs }, () => crypto.randomUUID());
    const arrived = results.of(ids);
    const startMs = performance.now();
    const { jobs: queue } = side === "plain" ? PLAIN_QUEUES : BLACKTREE_QUEUES;
    for (const id of ids)
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(jobOf(id))), { persistent: true });
    await arrived;
    return performance.now() - startMs;
  };
}

/** The orchestrator pings it from then on. */
async function register(redisUrl: string, address: string): Promise<void> {
  const logger = pino({ level: "silent" });
  const options = { leaseTtlMs: 10_000, jobMemoryMs: 3_600_000, settleMs: 0 };
  const leases = new RedisLeases({ url: redisUrl, keyPrefix: "{blacktree}:", ...options, logger });
  const worker = { workerId: "worker", incarnation: INCARNATION, region: REGION, address, slots: SLOTS };
  leases.start();
  await waitFor(() => leases.isReady, { timeoutMs: START_TIMEOUT_MS, what: "Redis" });
  await leases.register({ ...worker, version: "1", capabilities: [], runs: [] });
  await leases.close();
}

function jobOf(jobId: string) {
  return {
    job_id: jobId,
    repo_url: "owner/name",
    branch: "main",
    deployment_version: jobId,
    aws_account: "123456789012",
    ecr_repo: "images",
    region: REGION,
  };
}

/** The results of both sides, by job. */
class Results {
  readonly #waiting = new Map<string, (status: string) => void>();

  constructor(private readonly channel: ConfirmChannel) {}

  async consume(): Promise<void> {
    for (const { results } of [PLAIN_QUEUES, BLACKTREE_QUEUES]) {
      await this.channel.consume(
        results,
        (message) => {
          if (!message) return;
          const { job_id, status } = JSON.parse(message.content.toString());
          this.#waiting.get(job_id)?.(status);
          this.#waiting.delete(job_id);
        },
        { noAck: true },
      );
    }
  }

  /** @throws Error when one of them did not succeed */
  async of(jobIds: readonly string[]): Promise<void> {
    const arrived = jobIds.map((id) => new Promise<string>((resolve) => this.#waiting.set(id, resolve)));
    const failed = (await Promise.all(arrived)).find((status) => status !== "SUCCESS");
    if (failed !== undefined) throw new Error(`a job ended with ${failed}`);
  }
}
