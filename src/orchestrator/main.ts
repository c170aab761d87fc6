/** blacktree-orchestrator: one orchestrator on RabbitMQ and Redis. */

import { aborted } from "../shared/abort.ts";
import { protectMemory } from "../shared/core-dumps.ts";
import { environment, unifyProxies } from "../shared/env.ts";
import { createLogger, type Logger } from "../shared/logging.ts";
import { logProcessOutput } from "../shared/process-output.ts";
import { tlsFilesOf } from "../shared/rpc/tls.ts";
import { serviceManager } from "../shared/service-manager.ts";
import { EXIT, type ExitStatus, runDaemon } from "../shared/settings/command-line.ts";
import { ignoreSignals, listenForStop } from "../shared/shutdown.ts";
import { VERSION } from "../shared/version.ts";
import {
  adminAccess,
  grpcListenAddress,
  loadOrchestratorSettings,
  ORCHESTRATOR_SETTINGS,
  type OrchestratorSettings,
  unitEnvironment,
} from "./config.ts";
import { RedisLeases } from "./leases/redis.ts";
import { keepLogs, logMemoryMs } from "./logs/log-keeping.ts";
import { type Orchestrator, startOrchestrator } from "./orchestrator.ts";
import { OriginalApi } from "./original-api/original-api.ts";
import { RabbitMqQueue } from "./queue/rabbitmq/queue.ts";
import { RedisJobRecords } from "./records/redis.ts";
import { RedisLogPlaces } from "./records/redis-log-places.ts";

const NAME = "blacktree-orchestrator";

async function run(settings: OrchestratorSettings): Promise<ExitStatus> {
  const stop = listenForStop();
  const logger = createLogger(NAME, settings.logLevel);
  ignoreSignals(["SIGHUP", "SIGUSR1", "SIGUSR2"], logger);
  protectMemory(logger);
  logProcessOutput(logger);
  logger.info({ version: VERSION, region: settings.region }, "orchestrator starting");

  const manager = serviceManager(environment(), logger);
  const { rabbitmqUrls: urls, jobQueue, resultQueue, leaseTtlMs, jobMemoryMs } = settings;
  const inRedis = { url: settings.redisUrl, keyPrefix: settings.keyPrefix };
  const managementUrl = settings.rabbitmqManagementUrl;
  const queue = new RabbitMqQueue({
    urls,
    managementUrl,
    jobQueue,
    resultQueue,
    replyPatterns: settings.replyPatterns === "off" ? [] : settings.replyPatterns,
    logger,
  });
  const settleMs = leaseTtlMs + 2 * settings.pingIntervalMs;
  const leases = new RedisLeases({ ...inRedis, leaseTtlMs, jobMemoryMs, settleMs, logger });
  const records = new RedisJobRecords({ ...inRedis, jobMemoryMs });
  const names = { queue: "rabbitmq", leases: "redis" };
  const grpcListen = grpcListenAddress(settings);
  let orchestrator: Orchestrator;
  try {
    const tls = tlsFilesOf(settings);
    const places = new RedisLogPlaces({ ...inRedis, memoryMs: logMemoryMs(settings) });
    orchestrator = await startOrchestrator({
      queue,
      leases,
      records,
      logs: keepLogs(settings, places, logger),
      names,
      settings,
      admin: adminAccess(settings),
      grpcListen,
      grpcAdvertise: settings.grpcAdvertise,
      tls,
      logger,
    });
  } catch (error) {
    logger.error({ err: error }, "failed to start the orchestrator");
    return EXIT.failed;
  }

  const originalApi = originalApiOf(settings, logger);
  originalApi?.start();
  manager.report(() => orchestrator.describe());
  await aborted(stop.first);
  manager.stopping();
  logger.info({ reason: String(stop.first.reason) }, "orchestrator stopping; running builds continue");
  await originalApi?.close();
  await orchestrator.stop();
  logger.info("orchestrator stopped");
  return EXIT.done;
}

function originalApiOf(settings: OrchestratorSettings, logger: Logger): OriginalApi | undefined {
  const { originalApiAccount: awsAccount, originalApiEcrRepo: ecrRepo } = settings;
  if (!settings.hasOriginalApi || awsAccount === undefined) return undefined;
  const { rabbitmqUrls: urls, jobQueue } = settings;
  return new OriginalApi({ urls, jobQueue, target: { awsAccount, ecrRepo }, logger });
}

unifyProxies();
const status = await runDaemon(
  {
    name: NAME,
    description: "Takes build jobs from RabbitMQ, assigns them to workers, and publishes their results.",
    table: ORCHESTRATOR_SETTINGS,
    load: loadOrchestratorSettings,
    unitEnvironment,
    run,
  },
  process.argv.slice(2),
  environment(),
);
process.exit(status);
