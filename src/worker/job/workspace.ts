import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RunRef } from "../../shared/job.ts";
import { diskFull, saysDiskFull } from "./failure.ts";
import type { PipelineJob } from "./job.ts";

/**
 * The folder of one run. All that the run writes is in here, so that removing it leaves nothing:
 * `<work dir>/runs/<incarnation>/<hash of the job id>-<attempt>/`. What a crash leaves of it is taken away by
 * leftovers.ts, which needs the folder's name and the note in it.
 */
export interface Workspace {
  readonly path: string;
  /** HOME of the child processes. */
  readonly home: string;
  readonly checkout: string;
  /** What is taken out of a checkout that an earlier run has left. */
  readonly aside: string;
  /** Commits without files, only used when a job pins a commit that is not the tip. */
  readonly history: string;
  readonly dockerConfig: string;
  /** One file for each of the job's secrets. */
  readonly secrets: string;
  /** Where buildx says what it has built. */
  readonly buildMetadata: string;
  remove(): Promise<void>;
}

/** Where a run pushes to: all that its successor needs to take the attempt's tag away. No secret. */
export type RunNote = Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo">;

const NOTE_FILE = "run.json";

/** Short, fit for a folder and for a tag, and no other run's. */
function runName({ jobId, attempt }: RunRef): string {
  return `${createHash("sha256").update(jobId).digest("hex").slice(0, 16)}-${attempt}`;
}

/** A builder that has to push under a tag uses this one; no two attempts share it. */
export function attemptTag(run: RunRef): string {
  return attemptTagOf(runName(run));
}

/** By the run's name, which is its folder's. */
export function attemptTagOf(name: string): string {
  return `blacktree-${name}`;
}

/** Undefined when the run did not get as far as writing it. */
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
  const { awsAccount, region, ecrRepo } = run;
  const workspace: Workspace = {
    path,
    home: join(path, "home"),
    checkout: join(path, "checkout"),
    aside: join(path, "aside"),
    history: join(path, "history"),
    dockerConfig: join(path, "docker-config"),
    secrets: join(path, "secrets"),
    buildMetadata: join(path, "build-metadata.json"),
    remove: () => removeTree(path),
  };
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    for (const folder of [workspace.home, workspace.dockerConfig]) await mkdir(folder, { mode: 0o700 });
    await Bun.write(join(path, NOTE_FILE), JSON.stringify({ awsAccount, region, ecrRepo }));
  } catch (cause) {
    if (saysDiskFull(String(cause)))
      throw diskFull("clone", `the run's folder cannot be made: ${cause}`, cause);
    throw cause;
  }
  return workspace;
}

/** Also removes what is read-only: a repository may hold such folders, and a worker need not be root. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    await makeWritable(path);
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function makeWritable(path: string): Promise<void> {
  const entry = await lstat(path);
  if (!entry.isDirectory()) return;
  await chmod(path, 0o700);
  for (const name of await readdir(path)) await makeWritable(join(path, name));
}
