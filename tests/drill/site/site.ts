/**
 * The drilled deployment: 2 orchestrators and 4 workers as compiled programs, on real servers, with a proxy on every
 * connection between two of them, so that each connection can be cut separately.
 */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { ADMIN_ENV } from "../../support/blacktree/admin-api.ts";
import { type Binaries, compiledBinaries } from "../../support/blacktree/binaries.ts";
import { fakeClock } from "../../support/machine/fake-clock.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { type Aws, startAws } from "../../support/servers/aws.ts";
import { type Backends, startBackends } from "../../support/servers/backends.ts";
import type { OwnDockerEngine } from "../../support/servers/docker-engines.ts";
import type { RabbitMq, RabbitMqVersion } from "../../support/servers/rabbitmq.ts";
import { startTcpProxy, type TcpProxy } from "../../support/servers/tcp-proxy.ts";
import { type ConnectProxy, startConnectProxy } from "./connect-proxy.ts";
import { Program } from "./program.ts";

/** Those with workers, in the order of the fallback, and one without. */
export const REGIONS = ["us-east-1", "eu-west-1"] as const;
export const EMPTY_REGION = "ap-south-1";
export const AWS_ACCOUNT = "1234567890";
export const MAX_ATTEMPTS = 6;
export const PING_INTERVAL_MS = 500;
export const LEASE_TTL_MS = 4000;
/** All workers have the same capabilities: no fault changes what can be built. */
const UNSUPPORTED_AFTER_MS = 5000;
/** Short, so that an unreachable broker is noticed during a drill. */
const HEARTBEAT_SECONDS = 2;
/** An unresolvable host: workers connect through their own proxies, with the same URL for all of them. */
const GIT_BASE_URL = "http://git.example";
/** Likewise, for the orchestrators: no proxy is used for the addresses of this machine. */
const WORKER_HOST = "workers.example";
/** Shared by all workers, as in an installation. */
const REUSE_KEY = "5a".repeat(32);

export interface OrchestratorPart {
  readonly program: Program;
  readonly apiUrl: string;
  readonly grpcPort: number;
  readonly toRabbitMq: TcpProxy;
  readonly toRedis: TcpProxy;
  /** To all of them. */
  readonly toWorkers: TcpProxy;
}

export interface WorkerPart {
  readonly program: Program;
  /** At which orchestrators call it. */
  readonly address: string;
  readonly workDir: string;
  readonly region: string;
  readonly slots: number;
  /** A proxy for each orchestrator, and one for the orchestrators' connections to the worker. */
  readonly toOrchestrators: readonly TcpProxy[];
  readonly fromOrchestrators: TcpProxy;
  readonly toRegistry: TcpProxy;
  readonly toGit: TcpProxy;
}

/** Dedicated servers, since the drill breaks all of them. */
export type DrillBackends = Backends<RabbitMq, OwnDockerEngine>;

export interface Site {
  /** Part of everything that is built, so that it can be found again. */
  readonly mark: string;
  readonly backends: DrillBackends;
  readonly orchestrators: readonly OrchestratorPart[];
  readonly workers: readonly WorkerPart[];
  readonly programs: readonly Program[];
  addEcrRepository(name: string): void;
  stop(): Promise<void>;
}

const WORKERS = [
  { slots: 1, region: REGIONS[0] },
  { slots: 2, region: REGIONS[1] },
  { slots: 1, region: REGIONS[1] },
  { slots: 2, region: REGIONS[0] },
] as const;
/** Named workers keep their id over restarts; the others have a new one at each start. */
const NAMED_WORKERS = 2;

interface Building {
  readonly backends: DrillBackends;
  readonly binaries: Binaries;
  readonly folder: TempDir;
  readonly proxies: TcpProxy[];
  readonly connectProxy: ConnectProxy;
}

export interface SiteOptions {
  /** How far one orchestrator's clock is behind the others, and the second one's ahead. */
  readonly clocksApartSeconds: number;
  readonly rabbitMq: RabbitMqVersion;
}

export async function startSite({ clocksApartSeconds, rabbitMq: version }: SiteOptions): Promise<Site> {
  const [backends, binaries, folder, connectProxy] = await Promise.all([
    startBackends({ engine: "26.1", ownRabbitMq: { version }, ownDocker: {} }),
    compiledBinaries(),
    makeTempDir("drill"),
    startConnectProxy(),
  ]);
  const building: Building = { backends, binaries, folder, proxies: [], connectProxy };
  const orchestrators = await Promise.all(
    [-clocksApartSeconds, clocksApartSeconds].map((clockOffsetSeconds, index) =>
      makeOrchestrator(building, index + 1, clockOffsetSeconds),
    ),
  );
  const clouds = await Promise.all(WORKERS.map(() => startAws()));
  backends.ecr.faults.login = (username, password) =>
    clouds.some((cloud) => cloud.login(username, password) === "valid") ? "valid" : "unknown";
  const workers = await Promise.all(
    clouds.map((cloud, index) => makeWorker(building, orchestrators, cloud, index)),
  );
  const programs = [...orchestrators, ...workers].map(({ program }) => program);
  const site: Site = {
    mark: `drill-${crypto.randomUUID().slice(0, 8)}`,
    backends,
    orchestrators,
    workers,
    programs,
    addEcrRepository: (name) => {
      for (const cloud of clouds) cloud.addRepository(AWS_ACCOUNT, name);
    },
    async stop() {
      await Promise.all(
        programs.flatMap(({ launches }) => launches.map(({ process }) => process.stop(2000))),
      );
      await Promise.all(building.proxies.map((proxy) => proxy.stop()));
      await connectProxy.stop();
      await Promise.all(clouds.map((cloud) => cloud.stop()));
      await backends.stop();
      await folder.remove();
    },
  };
  try {
    await startPrograms(site);
  } catch (error) {
    await site.stop();
    throw error;
  }
  return site;
}

async function startPrograms({ orchestrators, workers }: Site): Promise<void> {
  for (const { program } of orchestrators) program.start();
  await Promise.all(orchestrators.map(untilReady));
  for (const { program } of workers) program.start();
  await Promise.all(workers.map(({ program }) => program.ready()));
}

/** Ready: the orchestrator has both its servers. */
export async function untilReady({ apiUrl, program }: OrchestratorPart): Promise<void> {
  await waitFor(async () => (await fetch(`${apiUrl}/readyz`, { signal: AbortSignal.timeout(2000) })).ok, {
    timeoutMs: 90_000,
    intervalMs: 100,
    what: `${program.name} to be ready`,
  });
}

async function proxyTo(port: number, { proxies }: Building): Promise<TcpProxy> {
  const proxy = await startTcpProxy({ port });
  proxies.push(proxy);
  return proxy;
}

async function makeOrchestrator(
  building: Building,
  number: number,
  clockOffsetSeconds: number,
): Promise<OrchestratorPart> {
  const { backends, binaries, folder } = building;
  const [grpcPort, adminPort] = [await freePort(), await freePort()];
  const toRabbitMq = await proxyTo(backends.rabbitmq.port, building);
  const toRedis = await proxyTo(backends.redis.port, building);
  const toWorkers = await proxyTo(building.connectProxy.port, building);
  const rabbitMqUrl = new URL(backends.rabbitmq.url);
  rabbitMqUrl.port = String(toRabbitMq.port);
  rabbitMqUrl.searchParams.set("heartbeat", String(HEARTBEAT_SECONDS));
  const program = new Program({
    name: `orchestrator-${number}`,
    command: [binaries.orchestrator],
    cwd: folder.path,
    readyLine: '"msg":"orchestrator listens"',
    clockOffsetMs: clockOffsetSeconds * 1000,
    env: {
      ...(clockOffsetSeconds !== 0 &&
        (await fakeClock(`${clockOffsetSeconds > 0 ? "+" : ""}${clockOffsetSeconds}s`))),
      RABBITMQ_URL: rabbitMqUrl.href,
      REDIS_URL: `redis://${toRedis.address}/0`,
      BLACKTREE_GRPC_LISTEN: `127.0.0.1:${grpcPort}`,
      BLACKTREE_ADMIN_LISTEN: `127.0.0.1:${adminPort}`,
      ...ADMIN_ENV,
      BLACKTREE_LOG_DIR: join(folder.path, `logs-of-orchestrator-${number}`),
      BLACKTREE_GIT_BASE_URL: GIT_BASE_URL,
      BLACKTREE_PING_INTERVAL: `${PING_INTERVAL_MS}ms`,
      BLACKTREE_LEASE_TTL: `${LEASE_TTL_MS}ms`,
      BLACKTREE_MAX_ATTEMPTS: String(MAX_ATTEMPTS),
      BLACKTREE_REGION_FALLBACK: REGIONS.join(","),
      BLACKTREE_REGIONS: EMPTY_REGION,
      BLACKTREE_UNSUPPORTED_AFTER: `${UNSUPPORTED_AFTER_MS}ms`,
      grpc_proxy: `http://${toWorkers.address}`,
      // The faults are not those of the jobs.
      BLACKTREE_MAX_WORKERS_LOST: String(MAX_ATTEMPTS),
    },
  });
  return { program, apiUrl: `http://127.0.0.1:${adminPort}`, grpcPort, toRabbitMq, toRedis, toWorkers };
}

async function makeWorker(
  building: Building,
  orchestrators: readonly OrchestratorPart[],
  cloud: Aws,
  index: number,
): Promise<WorkerPart> {
  const { slots, region } = WORKERS[index] ?? WORKERS[0];
  const { backends, binaries, folder } = building;
  const port = await freePort();
  const fromOrchestrators = await proxyTo(port, building);
  const address = `${WORKER_HOST}:${fromOrchestrators.port}`;
  const toOrchestrators = await Promise.all(orchestrators.map(({ grpcPort }) => proxyTo(grpcPort, building)));
  const toRegistry = await proxyTo(Number(new URL(backends.ecr.url).port), building);
  const toGit = await proxyTo(Number(new URL(backends.git.baseUrl).port), building);
  cloud.configure({ proxyEndpoint: `http://${toRegistry.address}` });
  const name = `worker-${index + 1}`;
  const workDir = join(folder.path, name);
  await mkdir(workDir);
  const program = new Program({
    name,
    command: [binaries.worker],
    cwd: folder.path,
    readyLine: '"msg":"registered"',
    env: {
      ...cloud.env(),
      ...backends.docker.env(),
      ...(index < NAMED_WORKERS && { BLACKTREE_WORKER_ID: name }),
      BLACKTREE_ORCHESTRATOR_ADDR: toOrchestrators.map(({ address }) => address).join(","),
      BLACKTREE_WORKER_LISTEN: `127.0.0.1:${port}`,
      BLACKTREE_WORKER_ADVERTISE: address,
      BLACKTREE_WORKER_REGION: region,
      BLACKTREE_WORKER_SLOTS: String(slots),
      BLACKTREE_WORK_DIR: workDir,
      BLACKTREE_GIT_BASE_URL: GIT_BASE_URL,
      BLACKTREE_REUSE_KEY: REUSE_KEY,
      http_proxy: `http://${toGit.address}`,
      no_proxy: "127.0.0.1,localhost",
    },
  });
  return { program, address, workDir, region, slots, toOrchestrators, fromOrchestrators, toRegistry, toGit };
}
