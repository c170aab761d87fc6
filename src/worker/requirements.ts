/** What a worker needs on its host. */
import { access, constants, mkdir } from "node:fs/promises";
import type { Environment } from "../shared/env.ts";
import { type ImageBuilder, NoUsableBuilder } from "./buildkit/builder.ts";
import { StepFailure } from "./job/failure.ts";
import { detect, missingGit } from "./prepare-builder.ts";
import { findWorkerCredentials } from "./registry/ecr/credentials.ts";
import type { WorkerSettings } from "./settings/config.ts";

/** Something is missing on this host. The message says what, and what to do. */
export class MissingRequirement extends Error {
  override readonly name = "MissingRequirement";
}

export interface Requirements {
  readonly settings: Pick<
    WorkerSettings,
    "workDir" | "builder" | "builderOptions" | "buildCgroup" | "buildNetwork" | "registry" | "region"
  >;
  readonly environment: Environment;
}

/**
 * Checks the work folder, git, credentials for the registry, and Docker or BuildKit, in this order.
 * @throws MissingRequirement for the first one that is missing
 */
export async function checkRequirements(
  { settings, environment }: Requirements,
  signal: AbortSignal,
): Promise<ImageBuilder> {
  await checkWorkFolder(settings.workDir);
  const withoutGit = missingGit(environment.PATH);
  if (withoutGit !== undefined) throw new MissingRequirement(withoutGit);
  if (settings.registry === undefined) await checkCredentials(settings.region);
  try {
    return await detect({ environment, settings }, signal);
  } catch (error) {
    if (!(error instanceof NoUsableBuilder)) throw error;
    throw new MissingRequirement(error.message, { cause: error });
  }
}

async function checkWorkFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const reason = WORK_FOLDER_ERRORS[(error as NodeJS.ErrnoException).code ?? ""] ?? String(error);
    throw new MissingRequirement(
      `the work folder ${path} cannot be used: ${reason}. Name a folder that this user may write to, with --work-dir (BLACKTREE_WORK_DIR), for example --work-dir "$HOME/.blacktree".`,
      { cause: error },
    );
  }
}

const WORK_FOLDER_ERRORS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "its file system is read-only",
  ENOTDIR: "a part of the path is a file",
  EEXIST: "it is a file",
  ENOENT: "it cannot be created there",
  ENOSPC: "its disk is full",
};

async function checkCredentials(region: string): Promise<void> {
  try {
    await findWorkerCredentials(region);
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error;
    throw new MissingRequirement(`${error.message}; for another registry than ECR set --registry.`, {
      cause: error,
    });
  }
}
