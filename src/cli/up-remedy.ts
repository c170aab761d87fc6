/** Remedies for errors at the start of `blacktree up`. */
import { DatabaseInUse } from "../orchestrator/embedded-database.ts";
import { MissingRequirement } from "../worker/requirements.ts";
import { UnusableSecret } from "./up-secrets.ts";

const NOT_PERMITTED = new Set(["EACCES", "EPERM", "EROFS"]);

/** @returns undefined for an unexpected error. */
export function remedyFor(error: unknown): string | undefined {
  if (error instanceof MissingRequirement || error instanceof UnusableSecret) return error.message;
  if (error instanceof DatabaseInUse)
    return `${error.message}. Stop the other blacktree, or name another folder with --work-dir.`;
  const { code = "", syscall, path } = Object((error as Error).cause ?? error) as NodeJS.ErrnoException;
  // Only the admin API listens on an address that the user chose.
  if (syscall === "listen")
    return `${(error as Error).message} (${code}). Name another address with --admin-listen, for example --admin-listen 127.0.0.1:8081.`;
  if (path !== undefined && NOT_PERMITTED.has(code))
    return `${path} cannot be used by this user, uid ${process.getuid?.()} (${code}). Make this user its owner with chown, or name another folder with --work-dir.`;
  return undefined;
}
