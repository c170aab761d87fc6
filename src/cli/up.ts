/** `blacktree up`: orchestrator and one worker in one process, on a SQLite file instead of RabbitMQ and Redis. */
import { join } from "node:path";
import { Command, Option } from "commander";
import {
  adminAccess,
  checkOneAdminToken,
  checkScheduling,
  SCHEDULING_SETTINGS,
} from "../orchestrator/config.ts";
import { openEmbeddedDatabase } from "../orchestrator/embedded-database.ts";
import { InProcessLeases } from "../orchestrator/leases/in-process.ts";
import { keepLogs, logMemoryMs } from "../orchestrator/logs/log-keeping.ts";
import { startOrchestrator } from "../orchestrator/orchestrator.ts";
import { SqliteQueue } from "../orchestrator/queue/sqlite/queue.ts";
import { SqliteJobRecords } from "../orchestrator/records/sqlite.ts";
import { SqliteLogPlaces } from "../orchestrator/records/sqlite-log-places.ts";
import { aborted, sleep } from "../shared/abort.ts";
import { protectMemory } from "../shared/core-dumps.ts";
import type { Environment } from "../shared/env.ts";
import { createLogger, type Logger } from "../shared/logging.ts";
import { logProcessOutput } from "../shared/process-output.ts";
import { UP_TOKEN_FILE } from "../shared/settings/admin-token.ts";
import { addSettingFlags, EXIT, type ExitStatus, settingFlags } from "../shared/settings/command-line.ts";
import type { HostPort } from "../shared/settings/parsers.ts";
import { loadSettings, optional, type SettingValues } from "../shared/settings/settings.ts";
import { ignoreSignals, listenForStop } from "../shared/shutdown.ts";
import { VERSION } from "../shared/version.ts";
import { checkBuilderOptions } from "../worker/buildkit/builders/location.ts";
import { checkRequirements } from "../worker/requirements.ts";
import { buildSettings } from "../worker/settings/build.ts";
import { checkBuildCgroup } from "../worker/settings/build-cgroup.ts";
import { WORKER_SETTINGS } from "../worker/settings/config.ts";
import {
  baseLoginSources,
  checkRegistry,
  registryAuthenticator,
  registrySettings,
} from "../worker/settings/registry.ts";
import { startWorker } from "../worker/worker.ts";
import { printRaw } from "./stdout.ts";
import { terminalFormat } from "./terminal/log.ts";
import { describeReady } from "./up-ready.ts";
import { remedyFor } from "./up-remedy.ts";
import { storedReuseKeys, storedToken } from "./up-secrets.ts";
import { checkSocketPaths, makeSockets } from "./up-sockets.ts";
import type { MakeCommand } from "./usage.ts";

const LOGS_FOLDER = "logs";

const { workerId, labels, slots, workDir, drainTimeoutMs } = WORKER_SETTINGS;
const { name, description, parse } = SCHEDULING_SETTINGS.logDir;

export const UP_SETTINGS = {
  ...SCHEDULING_SETTINGS,
  fileAdminToken: {
    ...SCHEDULING_SETTINGS.fileAdminToken,
    computedDefault: `${UP_TOKEN_FILE} in the work folder`,
  },
  logDir: optional({ name, description, computedDefault: `${LOGS_FOLDER} in the work folder` }, parse),
  workerId,
  labels,
  slots,
  workDir,
  drainTimeoutMs,
  ...buildSettings,
  ...registrySettings,
};

export type UpSettings = SettingValues<typeof UP_SETTINGS>;

export const upCommand: MakeCommand = (environment, finish) => {
  const command = new Command("up").description(
    "run orchestrator and one worker in this process; jobs are kept in a file and survive a restart",
  );
  addSettingFlags(command, UP_SETTINGS);
  command.option("--check-config", "print the effective settings, secrets masked, and exit");
  command.addOption(
    new Option(
      "--log-format <format>",
      "text is for people, json for programs; default: text on a terminal",
    ).choices(["text", "json"]),
  );
  command.addHelpText(
    "after",
    `
Examples:
  AWS_PROFILE=builder blacktree up --work-dir ~/.blacktree --region us-east-1
  blacktree up --check-config`,
  );
  return command.action(async () => {
    const sources = { flags: settingFlags(command, UP_SETTINGS), environment };
    const { values, lines } = loadSettings(UP_SETTINGS, sources, (given) => [
      ...checkScheduling(given),
      ...checkOneAdminToken(sources),
      ...checkSocketPaths(given),
      ...checkRegistry(given),
      ...checkBuilderOptions(given),
      ...checkBuildCgroup(given, environment.DOCKER_HOST),
    ]);
    const options = command.opts<{ checkConfig?: true; logFormat?: "text" | "json" }>();
    const isText = (options.logFormat ?? (process.stdout.isTTY ? "text" : "json")) === "text";
    if (options.checkConfig) printRaw(lines.join("\n"));
    else finish(await up(values, environment, isText));
  });
};

async function up(settings: UpSettings, environment: Environment, isText: boolean): Promise<ExitStatus> {
  const stop = listenForStop({ atHangup: true });
  const logger = createLogger("blacktree", settings.logLevel, isText ? terminalFormat() : undefined);
  ignoreSignals(["SIGUSR1", "SIGUSR2"], logger);
  protectMemory(logger);
  // Once the output of libraries is logged, `console` belongs to them.
  const { error: print } = console;
  logProcessOutput(logger);
  logger.info({ version: VERSION, work_dir: settings.workDir }, "blacktree starts");
  try {
    const running = await start(settings, environment, logger, stop.first);
    const isReady = await Promise.race([
      running.ready.then(() => true),
      aborted(stop.first).then(() => false),
    ]);
    if (isReady && isText) process.stdout.write(`${describeReady(running)}\n`);
    await aborted(stop.first);
    logger.info(
      { drain_timeout_ms: settings.drainTimeoutMs },
      "stopping after running jobs have ended; signal again to stop now",
    );
    await running.stop(stop.second);
    logger.info("blacktree stopped");
    return EXIT.done;
  } catch (error) {
    if (stop.first.aborted) return EXIT.done;
    const remedy = remedyFor(error);
    if (remedy === undefined) logger.error({ err: error }, "blacktree failed");
    else print(`blacktree: ${remedy}`);
    return EXIT.failed;
  }
}

/** @param port the one that was free, if the setting leaves the choice */
function listeningOn(setting: UpSettings["adminListen"], port: number | undefined): HostPort | undefined {
  return setting === "off" || port === undefined ? undefined : { ...setting, port };
}

/** Orchestrator and worker communicate over gRPC, as they do across machines. */
async function start(settings: UpSettings, environment: Environment, logger: Logger, signal: AbortSignal) {
  const builder = await checkRequirements({ settings, environment }, signal);
  const database = openEmbeddedDatabase(join(settings.workDir, "blacktree.db"));
  const sockets = makeSockets(settings.workDir);
  // With the database open, no other process uses the folder.
  const reuseKeys = settings.reuseKeys ?? storedReuseKeys(settings.workDir).value;
  const { jobMemoryMs, leaseTtlMs, region } = settings;
  const withLogDir = { ...settings, logDir: settings.logDir ?? join(settings.workDir, LOGS_FOLDER) };
  const places = new SqliteLogPlaces({ database, memoryMs: logMemoryMs(settings) });
  let tokenFile: string | undefined;
  const orchestrator = await startOrchestrator({
    queue: new SqliteQueue({ database, resultMemoryMs: jobMemoryMs, logger }),
    // The only worker starts and ends with this process, so no earlier run can exist after a start.
    leases: new InProcessLeases({ leaseTtlMs, jobMemoryMs, settleMs: 0, logger }),
    records: new SqliteJobRecords({ database, jobMemoryMs }),
    logs: keepLogs(withLogDir, places, logger),
    names: { queue: "queue", leases: "leases" },
    // The one worker also builds jobs for other regions, unless their region_policy is `require`.
    settings: { ...withLogDir, regionFallback: [...settings.regionFallback, region] },
    admin: adminAccess(settings, () => {
      const { path, value } = storedToken(settings.workDir);
      tokenFile = path;
      logger.info({ token_file: path }, "the admin API's token is in this file");
      return value;
    }),
    grpcListen: sockets.orchestrator,
    tls: undefined,
    logger,
  });
  const worker = await startWorker({
    settings: {
      ...settings,
      orchestratorAddresses: [sockets.orchestrator],
      reuseKeys,
      advertise: undefined,
    },
    listen: sockets.worker,
    tls: undefined,
    authenticator: registryAuthenticator(settings),
    baseLogins: baseLoginSources(settings, { environment, logger }),
    builder,
    environment,
    logger,
  });
  return {
    adminApi: listeningOn(settings.adminListen, orchestrator.adminPort),
    tokenFile,
    ready: worker.registered,
    /** Jobs that do not end in time stay in the queue, and run again after the next start. */
    async stop(force: AbortSignal): Promise<void> {
      const drained = orchestrator.drain().then(() => true);
      const outOfTime = sleep(settings.drainTimeoutMs, force).catch(() => undefined);
      const isDrained = await Promise.race([drained, outOfTime.then(() => false)]);
      // The orchestrator would take jobs that the worker ends for lost; their messages return to the queue instead.
      if (!isDrained) await orchestrator.stop();
      await worker.stop(0, force);
      if (isDrained) await orchestrator.stop();
      database.close();
    },
  };
}
