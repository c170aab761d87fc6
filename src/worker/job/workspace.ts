import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RunRef } from "../../shared/job.ts";
import { diskFull, saysDiskFull } from "./failure.ts";
import type { PipelineJob } from "./job.ts";

/**
 * The folder of one run, `<work dir>/runs/<incarnation>/<hash of the job id>-<attempt>/`. The run writes only in here,
 * so removing the folder removes everything. After a crash, crash-recovery.ts removes it; for that it needs the
 * folder's name and the note in it.
 */
export interface Workspace {
  readonly path: string;
  /** HOME of the child processes. */
  readonly home: string;
  readonly checkout: string;
  /** Entries that are moved out of a checkout that an earlier run has left. */
  readonly aside: string;
  /** Copies of a Dockerfile that docker must not read in its own folder, and of its ignore file. */
  readonly dockerfileCopy: string;
  /** Git's indexes of the checkout and its submodules, with the times of the files. */
  readonly indexes: string;
  /** Commits without files; only used when a job pins a commit that is not the tip. */
  readonly history: string;
  readonly dockerConfig: string;
  /** One file for each of the job's secrets. */
  readonly secrets: string;
  /** The build with its arguments, as buildx reads it. */
  readonly bakeFile: string;
  /** The file that limits the sources of a build without a network. */
  readonly sourcePolicy: string;
  /** The file in which buildx reports the built image. */
  readonly buildMetadata: string;
  remove(): Promise<void>;
}

/** Where a run pushes to: all that crash recovery needs to remove the attempt's tag. Contains no secret. */
export type RunNote = Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo" | "tenant">;

const NOTE_FILE = "run.json";

/** Short, valid in a folder name and in a tag, and unique to the run. */
export function runName({ jobId, attempt }: RunRef): string {
  return `${createHash("sha256").update(jobId).digest("hex").slice(0, 16)}-${attempt}`;
}

/** For builders that have to push under a tag; no two attempts share one. */
export function attemptTag(run: RunRef): string {
  return attemptTagOf(runName(run));
}

/** From the name of the run's folder. */
export function attemptTagOf(name: string): string {
  return `blacktree-${name}`;
}

/** Undefined when the run ended before it had written the note. */
export async function readRunNote(path: string): Promise<RunNote | undefined> {
  try {
    return JSON.parse(await readFile(join(path, NOTE_FILE), "utf8")) as RunNote;
  } catch {
    return undefined;
  }
}

export async function createWorkspace(
  workDir: string,
  incarnation: string,
  run: RunRef & RunNote,
): Promise<Workspace> {
  const path = join(workDir, "runs", incarnation, runName(run));
  const { awsAccount, region, ecrRepo, tenant } = run;
  const workspace: Workspace = {
    path,
    home: join(path, "home"),
    checkout: join(path, "checkout"),
    aside: join(path, "aside"),
    dockerfileCopy: join(path, "dockerfile-copy"),
    indexes: join(path, "indexes"),
    history: join(path, "history"),
    dockerConfig: join(path, "docker-config"),
    secrets: join(path, "secrets"),
    bakeFile: join(path, "bake.yaml"),
    sourcePolicy: join(path, "source-policy.json"),
    buildMetadata: join(path, "build-metadata.json"),
    remove: () => removeTree(path),
  };
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    for (const folder of [workspace.home, workspace.dockerConfig]) await mkdir(folder, { mode: 0o700 });
    await Bun.write(join(path, NOTE_FILE), JSON.stringify({ awsAccount, region, ecrRepo, tenant }));
  } catch (cause) {
    if (saysDiskFull(String(cause)))
      throw diskFull("clone", `failed to create the run's folder: ${cause}`, cause);
    throw cause;
  }
  return workspace;
}

/** Also removes read-only entries: a repository may contain such folders, and a worker need not be root. */
export async function removeTree(path: string | Buffer): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    await makeWritable(path);
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Names in a repository need not be UTF-8. */
async function makeWritable(path: string | Buffer): Promise<void> {
  const entry = await lstat(path);
  if (!entry.isDirectory()) return;
  await chmod(path, 0o700);
  for (const name of await readdir(path, "buffer"))
    await makeWritable(Buffer.concat([Buffer.from(path), Buffer.from("/"), name]));
}
