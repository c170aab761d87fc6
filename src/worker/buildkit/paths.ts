import { copyFile, lstat, mkdir, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { Workspace } from "../job/workspace.ts";

export interface BuildPaths {
  /** In the checkout, or a copy in the run's folder. */
  readonly dockerfile: string;
  readonly context: string;
  /** Paths of context and Dockerfile relative to the checkout; the Dockerfile itself may be a symlink. */
  readonly inCheckout: readonly [context: string, dockerfile: string];
}

const DEFAULT_NAME = "Dockerfile";
const LOWER_CASE_NAME = "dockerfile";
const IGNORE_FILE_SUFFIX = ".dockerignore";
const POLICY_SUFFIX = ".rego";
const NOT_FOUND_CODES = new Set(["ENOENT", "ENOTDIR", "ELOOP"]);

function outsideRepository(path: string): StepFailure {
  const message = `${path} leads out of the repository`;
  return new StepFailure({ code: "INVALID_JOB", step: "build", message });
}

function isInside(folder: string, path: string): boolean {
  const relativePath = relative(folder, path);
  return relativePath !== ".." && !relativePath.startsWith(`..${sep}`);
}

/** Undefined when the path does not exist. Symlinks are resolved. `name` is the job's name for it. */
async function resolveInside(checkout: string, path: string, name = path): Promise<string | undefined> {
  // Not joined: as for docker, `..` after a symlink leads up from the symlink's target.
  const requested = `${checkout}/${path}`;
  if (!isInside(checkout, requested)) throw outsideRepository(name);
  try {
    const real = await realpath(requested);
    if (!isInside(checkout, real)) throw outsideRepository(name);
    return real;
  } catch (error) {
    if (error instanceof Error && "code" in error && NOT_FOUND_CODES.has(String(error.code)))
      return undefined;
    throw error;
  }
}

/**
 * Finds the Dockerfile and the context of a job. A repository is not trusted: neither path may lead, by name or by
 * symlink, to the worker's own files.
 */
export async function buildPaths(
  workspace: Pick<Workspace, "checkout" | "dockerfileCopy">,
  job: Pick<PipelineJob, "dockerfile" | "context">,
): Promise<BuildPaths> {
  const checkout = await realpath(workspace.checkout);
  const contextName = job.context || ".";
  const context = await resolveInside(checkout, contextName);
  if (context === undefined || !(await stat(context)).isDirectory()) {
    const message = `the repository has no folder ${contextName} to build in`;
    throw new StepFailure({ code: "INVALID_JOB", step: "build", message });
  }
  // As docker does: the Dockerfile is in the context unless the job names another one.
  const dockerfileName = job.dockerfile || join(relative(checkout, context), DEFAULT_NAME);
  const { given, real } = await findDockerfile(checkout, dockerfileName);
  const isCopied = given !== real || (await hasPolicy(given));
  if (isCopied) await copyDockerfile({ checkout, given, real }, workspace.dockerfileCopy);
  const inCheckout = [relative(checkout, context), relative(checkout, given)] as const;
  return {
    dockerfile: isCopied ? join(workspace.dockerfileCopy, basename(given)) : given,
    context,
    inCheckout,
  };
}

interface FoundDockerfile {
  /** The job's name for it, in its real folder. May be a symlink. */
  readonly given: string;
  readonly real: string;
}

/** @throws StepFailure */
async function findDockerfile(checkout: string, name: string): Promise<FoundDockerfile> {
  const requested = join(checkout, name);
  const folder = requested === checkout ? undefined : await resolveInside(checkout, dirname(name));
  if (folder === undefined) throw noDockerfile(`the repository has no file ${name}`);
  const given = join(folder, await nameInFolder(folder, basename(requested)));
  const real = await resolveInside(checkout, relative(checkout, given), name);
  if (real === undefined) {
    const isDangling = await lstat(given).then(
      (entry) => entry.isSymbolicLink(),
      () => false,
    );
    const fault = isDangling
      ? `${name} is a symbolic link that leads to no file`
      : `the repository has no file ${name}`;
    throw noDockerfile(fault);
  }
  if (!(await stat(real)).isFile()) throw noDockerfile(`${name} is a folder, and not a Dockerfile`);
  return { given, real };
}

function noDockerfile(message: string): StepFailure {
  return new StepFailure({ code: "DOCKERFILE_NOT_FOUND", step: "build", message });
}

/** As buildx does: the default name is also found in lower case. */
async function nameInFolder(folder: string, name: string): Promise<string> {
  if (name !== DEFAULT_NAME || !(await stat(folder)).isDirectory()) return name;
  const names = await readdir(folder);
  return !names.includes(name) && names.includes(LOWER_CASE_NAME) ? LOWER_CASE_NAME : name;
}

/** buildx 0.31 and newer evaluate a policy beside the Dockerfile, a program in Rego, outside of the build. */
function hasPolicy(given: string): Promise<boolean> {
  return lstat(`${given}${POLICY_SUFFIX}`).then(
    () => true,
    () => false,
  );
}

/**
 * Docker looks for a Dockerfile's own ignore file beside the given name, and follows no link out of the Dockerfile's
 * folder. So docker gets copies under the given name, and no policy.
 */
async function copyDockerfile(
  { checkout, given, real }: FoundDockerfile & { checkout: string },
  folder: string,
) {
  const ignoreFile = `${given}${IGNORE_FILE_SUFFIX}`;
  const realIgnoreFile = await resolveInside(checkout, relative(checkout, ignoreFile));
  await mkdir(folder, { mode: 0o700 });
  await copyFile(real, join(folder, basename(given)));
  if (realIgnoreFile !== undefined && (await stat(realIgnoreFile)).isFile())
    await copyFile(realIgnoreFile, join(folder, basename(ignoreFile)));
}
