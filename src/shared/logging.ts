/** Log lines: a fixed message plus fields; unless the caller names a destination, one JSON object per line on standard output. */
import pino, { type DestinationStream, type Logger } from "pino";

export type { Logger } from "pino";
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Fields that contain secrets, wherever they occur in a logged object. */
const SECRET_FIELDS = [
  "git_token",
  "gitToken",
  "secrets",
  "registry_auths",
  "registryAuths",
  "password",
  "authorization",
  "token",
];

/**
 * Synchronous, because the last lines before an exit are the ones that explain it, and pino's worker-thread
 * transports do not work in a compiled executable.
 */
export function createLogger(
  program: string,
  level: LogLevel,
  destination: DestinationStream = pino.destination({ dest: 1, sync: true }),
): Logger {
  return pino(
    {
      level,
      base: { program },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "***" },
    },
    destination,
  );
}
