/** blacktree-worker: one worker that pushes to ECR or to another registry. */

import { aborted } from "../shared/abort.ts";
import { protectMemory } from "../shared/core-dumps.ts";
import { environment, unifyProxies } from "../shared/env.ts";
import { createLogger } from "../shared/logging.ts";
import { logProcessOutput } from "../shared/process-output.ts";
import { tlsFilesOf } from "../shared/rpc/tls.ts";
import { serviceManager } from "../shared/service-manager.ts";
import { EXIT, type ExitStatus, runDaemon } from "../shared/settings/command-line.ts";
import { ignoreSignals, listenForStop } from "../shared/shutdown.ts";
import { VERSION } from "../shared/version.ts";
import {
  listenAddress,
  loadWorkerSettings,
  unitEnvironment,
  WORKER_SETTINGS,
  type WorkerSettings,
} from "./settings/config.ts";
import { baseLoginSources, registryAuthenticator } from "./settings/registry.ts";
import { startWorker, type Worker } from "./worker.ts";

const NAME = "blacktree-worker";

async function run(settings: WorkerSettings): Promise<ExitStatus> {
  const stop = listenForStop();
  const logger = createLogger(NAME, settings.logLevel);
  ignoreSignals(["SIGHUP", "SIGUSR1", "SIGUSR2"], logger);
  protectMemory(logger);
  logProcessOutput(logger);
  logger.info({ version: VERSION, region: settings.region, slots: settings.slots }, "worker starting");
  const manager = serviceManager(environment(), logger);
  const authenticator = registryAuthenticator(settings);
  const listen = listenAddress(settings);
  let worker: Worker;
  try {
    const tls = tlsFilesOf(settings);
    const parts = { settings, listen, tls, authenticator, environment: environment(), logger };
    worker = await startWorker({ ...parts, baseLogins: baseLoginSources(settings, parts) });
  } catch (error) {
    logger.error({ err: error }, "worker failed to start");
    return EXIT.failed;
  }

  manager.report(() => worker.describe());
  await aborted(stop.first);
  manager.stopping();
  const { drainTimeoutMs } = settings;
  logger.info({ reason: String(stop.first.reason), drain_timeout_ms: drainTimeoutMs }, "worker draining");
  await worker.stop(drainTimeoutMs, stop.second);
  logger.info("worker stopped");
  return EXIT.done;
}

unifyProxies();
const status = await runDaemon(
  {
    name: NAME,
    description: "Builds images for the jobs that an orchestrator assigns, and pushes them.",
    table: WORKER_SETTINGS,
    load: loadWorkerSettings,
    unitEnvironment,
    run,
  },
  process.argv.slice(2),
  environment(),
);
process.exit(status);
