/**
 * Failures and log lines as a job's sender sees them. They name paths in the repository, never paths of this machine:
 * git and the file system report the latter.
 */
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";
import type { Workspace } from "../job/workspace.ts";

type Folders = Pick<Workspace, "path" | "checkout">;

export function withoutFolders(text: string, { path, checkout }: Folders): string {
  return text
    .replaceAll(`${checkout}/`, "")
    .replaceAll(checkout, ".")
    .replaceAll(`${path}/`, "")
    .replaceAll(path, ".");
}

/** An error of the file system is a fault of the worker's machine; any other unknown error is one of Blacktree. */
export function reportable(error: unknown, folders: Folders): unknown {
  if (error instanceof StepFailure) {
    const message = withoutFolders(error.message, folders);
    const { failure, throttled } = error;
    return new StepFailure({ ...failure, message, throttled, cause: error });
  }
  if (!isSystemError(error)) return error;
  const message = `the worker failed to write the checkout: ${reason(error, folders)}`;
  if (saysDiskFull(error.message)) return diskFull("clone", message, error);
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true, cause: error });
}

interface SystemError extends Error {
  readonly code: string;
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && "code" in error && /^E[A-Z0-9]+$/.test(String(error.code));
}

/** Only the code when the message names another folder of this machine. */
function reason({ code, message }: SystemError, folders: Folders): string {
  const cleaned = withoutFolders(message, folders);
  return /(^|[\s'"(])\//.test(cleaned) ? code : cleaned;
}
