/**
 * Removes what a crashed worker has left on this machine: processes, folders with credentials, unfinished images, tags
 * of attempts. The next worker that starts on the same work folder does this.
 *
 * Every incarnation has a folder `<work dir>/runs/<incarnation>/`, in which it records its process, so that two live
 * workers on one work folder do not remove each other's files.
 */
import { mkdir, readdir, readFile, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Environment } from "../shared/env.ts";
import type { Logger } from "../shared/logging.ts";
import type { ImageBuilder } from "./buildkit/builder.ts";
import type { CheckoutCache } from "./git/checkout-cache.ts";
import { writePrivateFile } from "./job/private-file.ts";
import { attemptTagOf, type RunNote, readRunNote, removeTree } from "./job/workspace.ts";
import { childEnvironment } from "./process/child-environment.ts";
import { endProcessesOf } from "./process/end-processes.ts";
import type { RegistryAuthenticator } from "./registry/access.ts";
import { RegistryClient } from "./registry/client.ts";
import { RegistryLogin } from "./registry/login.ts";

const OWNER_FILE = "owner.json";
/** Contains the journals of the runs' logs. */
const LOGS_FOLDER = "logs";
const CLEAN_UP_TIMEOUT_MS = 30_000;

/** Process ids are reused, so one counts only together with the start of the process and the boot of the machine. */
interface Owner {
  readonly pid: number;
  /** In clock ticks since boot, /proc/<pid>/stat field 22 (proc(5)). */
  readonly startTicks: string;
  readonly bootId: string;
}

export interface RunsFolder {
  readonly path: string;
  /** The folder for the journals of runs. Does not exist yet. */
  readonly logs: string;
  remove(): Promise<void>;
}

/** Creates this incarnation's folder and records its owner in it. */
export async function claimRunsFolder(workDir: string, incarnation: string): Promise<RunsFolder> {
  const path = join(workDir, "runs", incarnation);
  const { pid } = process;
  const owner: Owner = { pid, startTicks: (await startTicksOf(pid)) ?? "", bootId: await bootId() };
  // Another worker that starts meanwhile would remove a folder without an owner.
  const unfinished = `${path}.${owner.pid}-${owner.startTicks}`;
  await mkdir(unfinished, { recursive: true, mode: 0o700 });
  await writePrivateFile(join(unfinished, OWNER_FILE), JSON.stringify(owner));
  await rename(unfinished, path);
  return { path, logs: join(path, LOGS_FOLDER), remove: () => removeTree(path) };
}

export interface CrashRecoveryParts {
  readonly workDir: string;
  readonly builder: ImageBuilder;
  readonly authenticator: RegistryAuthenticator;
  readonly checkoutCache: CheckoutCache;
  readonly environment: Environment;
  readonly logger: Logger;
}

/** Removes the folders of incarnations without a live process. A failure is logged and does not delay the start. */
export async function recoverFromCrashes(parts: CrashRecoveryParts): Promise<void> {
  const runs = join(parts.workDir, "runs");
  for (const name of await readdir(runs)) {
    const folder = join(runs, name);
    if (await isOwnerAlive(folder)) continue;
    try {
      await removeIncarnation(folder, parts);
      parts.logger.info({ incarnation: name }, "cleaned up after a crashed worker");
    } catch (error) {
      parts.logger.warn({ err: error, incarnation: name }, "failed to clean up after a crashed worker");
    }
  }
  await parts.checkoutCache.removeStale().catch((error: unknown) => {
    parts.logger.warn({ err: error }, "failed to remove old cached checkouts");
  });
}

async function removeIncarnation(folder: string, parts: CrashRecoveryParts): Promise<void> {
  const runFolders = (await readdir(folder))
    .filter((name) => name !== OWNER_FILE && name !== LOGS_FOLDER)
    .map((name) => join(folder, name));
  await endProcessesOf(runFolders, AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS));
  if (runFolders.length > 0) await removeImages(runFolders, parts);
  for (const path of runFolders) await removeAttemptTag(path, parts);
  await removeTree(folder);
}

async function removeImages(runFolders: readonly string[], parts: CrashRecoveryParts): Promise<void> {
  const [scratch = parts.workDir] = runFolders;
  const environment = childEnvironment(parts.environment, scratch);
  const tags = runFolders.map((path) => attemptTagOf(basename(path)));
  await parts.builder.removeImages(tags, {
    cwd: scratch,
    environment,
    signal: AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS),
  });
}

async function removeAttemptTag(
  path: string,
  { builder, authenticator, logger }: CrashRecoveryParts,
): Promise<void> {
  // A direct builder pushes by digest only.
  if (builder.kind === "direct") return;
  const note = await readRunNote(path);
  if (!note) return;
  try {
    await deleteTag(note, attemptTagOf(basename(path)), authenticator, logger);
  } catch (error) {
    logger.warn({ err: error, ecr_repo: note.ecrRepo }, "failed to remove the tag of a crashed attempt");
  }
}

async function deleteTag(
  note: RunNote,
  tag: string,
  authenticator: RegistryAuthenticator,
  logger: Logger,
): Promise<void> {
  const signal = AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS);
  const log = (line: string) => logger.debug({ line }, "signing in to remove a tag");
  const access = await authenticator.authenticate({ job: note, log, signal });
  await new RegistryClient(new RegistryLogin(access), "tag").deleteTag(note.ecrRepo, tag, signal);
}

/** Of a folder that `claimRunsFolder` has not finished. */
const UNFINISHED = /\.(\d+)-(\d+)$/;

async function isOwnerAlive(folder: string): Promise<boolean> {
  const [, pid, startTicks] = UNFINISHED.exec(folder) ?? [];
  if (pid !== undefined) return startTicks === (await startTicksOf(Number(pid)));
  let owner: Owner;
  try {
    owner = JSON.parse(await readFile(join(folder, OWNER_FILE), "utf8")) as Owner;
  } catch {
    // The file is incomplete: its worker crashed while it wrote the file.
    return false;
  }
  return owner.bootId === (await bootId()) && owner.startTicks === (await startTicksOf(owner.pid));
}

/** Undefined when the process does not exist, or is a zombie that its parent has not reaped. */
async function startTicksOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The program's name, in parentheses, may itself contain spaces and parentheses.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" || state === "X" ? undefined : fields[18];
}

/** Changes with every boot of the machine. */
export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
