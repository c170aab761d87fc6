/** `blacktree up`: orchestrator and one worker in one process, on a SQLite file instead of RabbitMQ and Redis. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { checkScheduling, SCHEDULING_SETTINGS } from "../orchestrator/config.ts";
import { openEmbeddedDatabase } from "../orchestrator/embedded-database.ts";
import { InProcessLeases } from "../orchestrator/leases/in-process.ts";
import { startOrchestrator } from "../orchestrator/orchestrator.ts";
import { SqliteQueue } from "../orchestrator/queue/sqlite/queue.ts";
import { SqliteJobRecords } from "../orchestrator/records/sqlite.ts";
import { aborted, sleep } from "../shared/abort.ts";
import type { Environment } from "../shared/env.ts";
import { createLogger, type Logger } from "../shared/logging.ts";
import { addSettingFlags, EXIT, type ExitStatus, settingFlags } from "../shared/settings/command-line.ts";
import { loadSettings, type SettingValues } from "../shared/settings/settings.ts";
import { listenForStop } from "../shared/shutdown.ts";
import { VERSION } from "../shared/version.ts";
import { checkBuilderOptions } from "../worker/buildkit/builders/location.ts";
import { buildSettings } from "../worker/settings/build.ts";
import { checkBuildCgroup } from "../worker/settings/build-cgroup.ts";
import { WORKER_SETTINGS } from "../worker/settings/config.ts";
import { checkRegistry, registryAuthenticator, registrySettings } from "../worker/settings/registry.ts";
import { startWorker } from "../worker/worker.ts";
import { storedReuseKeys } from "./reuse-key.ts";
import type { MakeCommand } from "./usage.ts";

const { workerId, slots, workDir, drainTimeoutMs } = WORKER_SETTINGS;

export const UP_SETTINGS = {
  ...SCHEDULING_SETTINGS,
  workerId,
  slots,
  workDir,
  drainTimeoutMs,
  ...buildSettings,
  ...registrySettings,
};

type UpSettings = SettingValues<typeof UP_SETTINGS>;

export const upCommand: MakeCommand = (environment, finish) => {
  const command = new Command("up").description(
    "run orchestrator and one worker in this process; jobs are kept in a file and survive a restart",
  );
  addSettingFlags(command, UP_SETTINGS);
  command.option("--check-config", "print the effective settings, secrets masked, and exit");
  return command.action(async () => {
    const sources = { flags: settingFlags(command, UP_SETTINGS), environment };
    const { values, lines } = loadSettings(UP_SETTINGS, sources, (given) => [
      ...checkScheduling(given),
      ...checkRegistry(given),
      ...checkBuilderOptions(given),
      ...checkBuildCgroup(given, environment.DOCKER_HOST),
    ]);
    if (command.opts<{ checkConfig?: true }>().checkConfig) console.log(lines.join("\n"));
    else finish(await up(values, environment));
  });
};

async function up(settings: UpSettings, environment: Environment): Promise<ExitStatus> {
  const stop = listenForStop();
  const logger = createLogger("blacktree", settings.logLevel);
  logger.info({ version: VERSION, work_dir: settings.workDir }, "blacktree starts");
  try {
    const running = await start(settings, environment, logger);
    await aborted(stop.first);
    logger.info(
      { drain_timeout_ms: settings.drainTimeoutMs },
      "stopping after running jobs have ended; signal again to stop now",
    );
    await running.stop(stop.second);
    logger.info("blacktree stopped");
    return EXIT.done;
  } catch (error) {
    logger.error({ err: error }, "blacktree failed");
    return EXIT.failed;
  }
}

/** Orchestrator and worker communicate over gRPC on loopback, as they do across machines. */
async function start(settings: UpSettings, environment: Environment, logger: Logger) {
  mkdirSync(settings.workDir, { recursive: true, mode: 0o700 });
  const database = openEmbeddedDatabase(join(settings.workDir, "blacktree.db"));
  // With the database open, no other process uses the folder.
  const reuseKeys = settings.reuseKeys ?? storedReuseKeys(settings.workDir);
  const { jobMemoryMs, leaseTtlMs, region } = settings;
  const orchestrator = await startOrchestrator({
    queue: new SqliteQueue({ database, resultMemoryMs: jobMemoryMs, logger }),
    // The only worker starts and ends with this process, so no earlier run can exist after a start.
    leases: new InProcessLeases({ leaseTtlMs, jobMemoryMs, settleMs: 0, logger }),
    records: new SqliteJobRecords({ database, jobMemoryMs }),
    names: { queue: "queue", leases: "leases" },
    // The one worker also builds jobs for other regions, unless their region_policy is `require`.
    settings: { ...settings, regionFallback: [...settings.regionFallback, region] },
    grpcListen: LOOPBACK,
    tls: undefined,
    logger,
  });
  const worker = await startWorker({
    settings: {
      ...settings,
      reuseKeys,
      orchestratorAddresses: [{ host: LOOPBACK.host, port: orchestrator.grpcPort }],
      advertise: undefined,
    },
    listen: LOOPBACK,
    tls: undefined,
    authenticator: registryAuthenticator(settings),
    environment,
    logger,
  });
  return {
    /** Jobs that do not end in time stay in the queue, and run again after the next start. */
    async stop(force: AbortSignal): Promise<void> {
      const outOfTime = sleep(settings.drainTimeoutMs, force).catch(() => undefined);
      await Promise.race([orchestrator.drain(), outOfTime]);
      await orchestrator.stop();
      await worker.stop(0, force);
      database.close();
    },
  };
}

const LOOPBACK = { host: "127.0.0.1", port: 0 };
