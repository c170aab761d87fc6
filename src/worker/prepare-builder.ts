import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { sleep } from "../shared/abort.ts";
import { Backoff } from "../shared/backoff.ts";
import type { Environment } from "../shared/env.ts";
import type { Logger } from "../shared/logging.ts";
import { type ImageBuilder, NoUsableBuilder } from "./buildkit/builder.ts";
import { detectBuilder } from "./buildkit/builders/detect.ts";
import { engineFolders } from "./buildkit/builders/engine-folders.ts";
import { buildCachePruner } from "./buildkit/prune-cache.ts";
import { claimRunsFolder } from "./crash-recovery.ts";
import type { DiskWatch } from "./disk/disk-watch.ts";
import type { CheckoutCache } from "./git/checkout-cache.ts";
import { saysDiskFull } from "./job/failure.ts";
import { childEnvironment } from "./process/child-environment.ts";
import type { Journals } from "./runs/journals.ts";
import type { WorkerSettings } from "./settings/config.ts";
import type { WorkerState } from "./worker-state.ts";

interface BuilderParts {
  /** Child processes receive parts of it. */
  readonly environment: Environment;
  readonly settings: Pick<
    WorkerSettings,
    "workDir" | "builder" | "builderOptions" | "buildCgroup" | "buildNetwork"
  >;
  readonly logger: Logger;
}

interface FindBuilderParts extends BuilderParts {
  readonly state: Pick<WorkerState, "waiting">;
}

interface Stored {
  readonly checkoutCache: CheckoutCache;
  readonly journals: Journals;
}

/** Ends with a first check, so that a worker short of disk space prunes, or refuses jobs, from its first moment on. */
export async function watchDisks(
  disks: DiskWatch,
  builder: () => Promise<ImageBuilder>,
  { checkoutCache, journals }: Stored,
  { home, parts, signal }: { home: string; parts: BuilderParts; signal: AbortSignal },
): Promise<void> {
  const { environment: hostEnvironment, settings, logger } = parts;
  disks.addDisk({ role: "the work folder", path: settings.workDir });
  disks.addPruner({
    name: "kept checkouts",
    paths: [settings.workDir],
    shrinkTo: (keepBytes) => checkoutCache.evict(keepBytes),
  });
  try {
    // With a remote BuildKit, an engine on this host takes no part in the builds.
    const usesEngine = settings.builder.kind !== "remote";
    const folders = usesEngine ? await engineFolders({ hostEnvironment, home, signal }) : [];
    for (const path of folders) disks.addDisk({ role: "docker's data", path });
    const environment = childEnvironment(hostEnvironment, home);
    disks.addPruner(buildCachePruner(builder, folders, { cwd: home, environment }));
  } catch (error) {
    if (!signal.aborted)
      logger.warn({ err: error }, "failed to find Docker's data folders; their disks are not monitored");
  }
  // Last: a cache only makes jobs faster.
  disks.addPruner({
    name: "logs of ended runs",
    paths: [settings.workDir],
    shrinkTo: (keepBytes) => journals.shrinkTo(keepBytes),
  });
  await disks.check(signal);
}

/** Undefined when git can be run. */
export function missingGit(path: string | undefined): string | undefined {
  if (Bun.which("git", { PATH: path ?? "" }) !== null) return undefined;
  return "git is not installed, or not in PATH. Install the package git.";
}

/**
 * Tries once, in a folder like that of a run: crash recovery removes it, and ends what it started, if this process is
 * killed meanwhile.
 * @throws NoUsableBuilder that names what was tried, and the remedy
 */
export async function detect(
  { environment: hostEnvironment, settings }: Omit<BuilderParts, "logger">,
  signal: AbortSignal,
): Promise<ImageBuilder> {
  const {
    workDir,
    builder: location,
    builderOptions: driverOptions,
    buildCgroup,
    buildNetwork: network,
  } = settings;
  const withoutGit = missingGit(hostEnvironment.PATH);
  if (withoutGit !== undefined) throw new NoUsableBuilder(withoutGit);
  const folder = await claimRunsFolder(workDir, randomUUID());
  const scratchParent = join(folder.path, "probe");
  try {
    await mkdir(scratchParent);
    return await detectBuilder({
      hostEnvironment,
      workDir,
      scratchParent,
      location,
      driverOptions,
      inCgroup: buildCgroup !== undefined,
      network,
      signal,
    });
  } finally {
    await folder.remove();
  }
}

/** Retries until a builder works, since Docker or BuildKit may start after the worker; undefined on abort. */
export async function findBuilder(
  parts: FindBuilderParts,
  signal: AbortSignal,
): Promise<ImageBuilder | undefined> {
  const { logger, state } = parts;
  const delay = new Backoff({ initialMs: 1000, maxMs: 30_000 });
  while (!signal.aborted) {
    try {
      const builder = await detect(parts, signal);
      const { kind, description: docker, location: at } = builder;
      logger.info({ builder: kind, docker, at }, "builder chosen");
      return builder;
    } catch (error) {
      if (signal.aborted) break;
      if (!isTransient(error)) throw error;
      const delayMs = delay.nextMs();
      state.waiting(error.message);
      logger.error({ reason: error.message, retry_in_ms: delayMs }, "no usable builder; not registering yet");
      await sleep(delayMs, signal).catch(() => undefined);
    }
  }
  return undefined;
}

/** Docker may start later, and a probe needs a temporary folder, for which a full disk may have no space yet. */
function isTransient(error: unknown): error is Error {
  return error instanceof NoUsableBuilder || (error instanceof Error && saysDiskFull(error.message));
}
