/** The failures of Git LFS. Their messages have texts of servers, but no path of this machine and no header. */
import { withVisibleCharacters } from "../../shared/visible-text.ts";
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";

const MAX_QUOTED_CHARS = 300;

export function failed(message: string, retryable = false, cause?: unknown): StepFailure {
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable, cause });
}

/** A server's text, for a message: on one line, without control characters, and not too long. */
export function quoted(text: string): string {
  const line = withVisibleCharacters(text.trim().replace(/\s+/g, " "));
  return line.length > MAX_QUOTED_CHARS ? `${line.slice(0, MAX_QUOTED_CHARS).toWellFormed()}…` : line;
}

/** The kind of an error. Its text may contain a path of this machine or a header. */
export function reasonOf(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return error instanceof Error ? error.name : "unknown error";
}

/** @throws StepFailure that names the repository's file when the work fails on the file system. */
export async function onFile<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    const message = `failed to write ${name} from Git LFS: ${reasonOf(cause)}`;
    throw saysDiskFull(message) ? diskFull("clone", message, cause) : failed(message, true, cause);
  }
}
