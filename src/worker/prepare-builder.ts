import { sleep } from "../shared/abort.ts";
import { GrowingDelay } from "../shared/backoff.ts";
import type { Environment } from "../shared/env.ts";
import type { Logger } from "../shared/logging.ts";
import { type ImageBuilder, NoUsableBuilder } from "./buildkit/builder.ts";
import { detectBuilder } from "./buildkit/builders/detect.ts";
import { engineFolders } from "./buildkit/builders/engine-folders.ts";
import { buildCachePruner } from "./buildkit/prune-cache.ts";
import type { DiskWatch } from "./disk/disk-watch.ts";
import type { CheckoutCache } from "./git/checkout-cache.ts";
import { saysDiskFull } from "./job/failure.ts";
import { childEnvironment } from "./process/child-environment.ts";
import type { WorkerSettings } from "./settings/config.ts";

interface BuilderParts {
  /** Child processes get parts of it. */
  readonly environment: Environment;
  readonly settings: Pick<WorkerSettings, "workDir" | "builder" | "builderOptions" | "buildCgroup">;
  readonly logger: Logger;
}

/** Has looked once when it comes back, so that a worker without room is pruned, or refuses, from its first moment on. */
export async function watchDisks(
  disks: DiskWatch,
  builder: ImageBuilder,
  checkoutCache: CheckoutCache,
  { home, parts, signal }: { home: string; parts: BuilderParts; signal: AbortSignal },
): Promise<void> {
  const { environment: hostEnvironment, settings, logger } = parts;
  disks.addDisk({ role: "the work folder", path: settings.workDir });
  disks.addPruner({
    what: "kept checkouts",
    paths: [settings.workDir],
    shrinkTo: (keepBytes) => checkoutCache.evict(keepBytes),
  });
  try {
    // An engine that is there all the same has no part in the builds.
    const isEngines = settings.builder.kind !== "remote";
    const folders = isEngines ? await engineFolders({ hostEnvironment, home, signal }) : [];
    for (const path of folders) disks.addDisk({ role: "docker's data", path });
    const environment = childEnvironment(hostEnvironment, home);
    disks.addPruner(buildCachePruner(builder, folders, { cwd: home, environment }));
  } catch (error) {
    if (!signal.aborted) logger.warn({ err: error }, "docker's disk is not watched");
  }
  await disks.look(signal);
}

/** Goes on looking until there is one, since Docker or BuildKit may start after the worker; undefined when `signal` aborts. */
export async function findBuilder(
  parts: BuilderParts,
  signal: AbortSignal,
): Promise<ImageBuilder | undefined> {
  const { environment: hostEnvironment, logger, settings } = parts;
  const { workDir, builder: place, builderOptions: driverOptions, buildCgroup } = settings;
  const inCgroup = buildCgroup !== undefined;
  const delay = new GrowingDelay({ firstMs: 1000, mostMs: 30_000 });
  while (!signal.aborted) {
    try {
      const builder = await detectBuilder({
        hostEnvironment,
        workDir,
        place,
        driverOptions,
        inCgroup,
        signal,
      });
      logger.info({ builder: builder.kind, docker: builder.description }, "builder chosen");
      return builder;
    } catch (error) {
      if (signal.aborted) break;
      if (!mayPass(error)) throw error;
      const delayMs = delay.nextMs();
      logger.error(
        { reason: error.message, retry_in_ms: delayMs },
        "nothing to build with; not registering yet",
      );
      await sleep(delayMs, signal).catch(() => undefined);
    }
  }
  return undefined;
}

/** Docker may start later, and a look at it takes a folder, for which there may be no room yet. */
function mayPass(error: unknown): error is Error {
  return error instanceof NoUsableBuilder || (error instanceof Error && saysDiskFull(error.message));
}
