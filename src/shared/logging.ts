/** Log lines: a fixed message plus fields; one JSON object per line on standard output, unless the caller formats them. */
import pino, { type Logger } from "pino";
import { LogOutput } from "./log-output.ts";

export type { Logger } from "pino";
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Turns a JSON object in one line into what is written. */
export type LogFormat = (line: string) => string;

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
/** At the end of the process, for a reader that is slow. */
const FLUSH_TIMEOUT_MS = 3000;

export function createLogger(program: string, level: LogLevel, format: LogFormat = (line) => line): Logger {
  const describeLoss = (dropped: number, reason: string) => {
    const lines = dropped === 1 ? "1 log line was" : `${dropped} log lines were`;
    const fields = { level: "warn", time: new Date().toISOString(), program, dropped };
    return format(`${JSON.stringify({ ...fields, msg: `${lines} dropped because ${reason}` })}\n`);
  };
  const output = new LogOutput({ fd: 1, describeLoss });
  process.on("exit", () => output.flush(FLUSH_TIMEOUT_MS));
  return pino(
    {
      level,
      base: { program },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: loggedError },
      redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "***" },
    },
    // Not a transport, which does not work in a compiled executable.
    { write: (line) => output.write(format(line)) },
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
