import { realpath, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";

export interface BuildPaths {
  readonly dockerfile: string;
  readonly context: string;
  /** Paths of context and Dockerfile relative to the checkout, with symlinks resolved. */
  readonly inCheckout: readonly [context: string, dockerfile: string];
}

const NOT_FOUND_CODES = new Set(["ENOENT", "ENOTDIR", "ELOOP"]);

function outsideRepository(path: string): StepFailure {
  const message = `${path} leads out of the repository`;
  return new StepFailure({ code: "INVALID_JOB", step: "build", message });
}

function isInside(folder: string, path: string): boolean {
  const relativePath = relative(folder, path);
  return relativePath !== ".." && !relativePath.startsWith(`..${sep}`);
}

/** Undefined when the path does not exist. Symlinks are resolved. */
async function resolveInside(checkout: string, path: string): Promise<string | undefined> {
  const requested = join(checkout, path);
  if (!isInside(checkout, requested)) throw outsideRepository(path);
  try {
    const real = await realpath(requested);
    if (!isInside(checkout, real)) throw outsideRepository(path);
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
  checkoutPath: string,
  job: Pick<PipelineJob, "dockerfile" | "context">,
): Promise<BuildPaths> {
  const checkout = await realpath(checkoutPath);
  const contextName = job.context || ".";
  const context = await resolveInside(checkout, contextName);
  if (context === undefined || !(await stat(context)).isDirectory()) {
    const message = `the repository has no folder ${contextName} to build in`;
    throw new StepFailure({ code: "INVALID_JOB", step: "build", message });
  }
  // As docker does: the Dockerfile is in the context unless the job names another one.
  const dockerfileName = job.dockerfile || join(job.context || "", "Dockerfile");
  const dockerfile = await resolveInside(checkout, dockerfileName);
  if (dockerfile === undefined || !(await stat(dockerfile)).isFile()) {
    const message = `the repository has no file ${dockerfileName}`;
    throw new StepFailure({ code: "DOCKERFILE_NOT_FOUND", step: "build", message });
  }
  const inCheckout = [relative(checkout, context), relative(checkout, dockerfile)] as const;
  return { dockerfile, context, inCheckout };
}
