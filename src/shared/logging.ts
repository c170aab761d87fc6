/** Log lines: a fixed message plus fields; unless the caller names a destination, one JSON object per line on standard output. */
import pino, { type DestinationStream, type Logger } from "pino";

export type { Logger } from "pino";
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Fields that contain secrets, wherever they occur in a logged object. */
const SECRET_FIELDS = ["git_token", "gitToken", "secrets", "password", "authorization", "token"];

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
      serializers: { err: loggedError },
      redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "***" },
    },
    destination,
  );
}

const LOGGED_FIELDS = ["type", "message", "stack", "code", "aggregateErrors"] as const;

/**
 * Not the other fields that a library adds to its errors: they can contain a request, such as the password of Redis in
 * the arguments of AUTH. The message may contain the URL of a server with its login.
 */
function loggedError(error: unknown): unknown {
  if (!(error instanceof Error)) return typeof error === "object" ? "an object that is not an error" : error;
  const serialized: pino.SerializedError = pino.stdSerializers.err(error);
  const fields = LOGGED_FIELDS.filter((name) => serialized[name] !== undefined);
  return Object.fromEntries(fields.map((name) => [name, withoutLogins(serialized[name])]));
}

function withoutLogins(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((error) => loggedError(error.raw));
  return typeof value === "string" ? value.replaceAll(/\/\/[^\s/@]+@/g, "//***@") : value;
}
