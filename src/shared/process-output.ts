/**
 * What the runtime and libraries report past the logger: unexpected errors, warnings, and lines for the console. Left
 * alone, it is text on standard error between the log's lines, and contains all fields of an error, which may be secrets.
 */
import type { Logger } from "./logging.ts";

const CONSOLE_LEVELS = { error: "warn", warn: "warn", info: "info", log: "info", debug: "debug" } as const;

/** For the rest of the process: all of it becomes log lines. An unexpected error still ends the process. */
export function logProcessOutput(logger: Logger): void {
  for (const [method, level] of Object.entries(CONSOLE_LEVELS)) {
    console[method as keyof typeof CONSOLE_LEVELS] = (...values: unknown[]) =>
      logger[level]({ ...errorAmong(values), output: textOf(values) }, "message of a library");
  }
  // A listener for warnings would not keep Bun from writing them too.
  process.emitWarning = (warning: string | Error) =>
    logger.warn({ ...errorAmong([warning]), output: textOf([warning]) }, "warning of the runtime");
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      try {
        logger.error({ err: error }, "unexpected error, the program ends");
      } finally {
        process.exit(1);
      }
    });
  }
}

function errorAmong(values: readonly unknown[]): { readonly err?: Error } {
  const error = values.find((value) => value instanceof Error);
  return error ? { err: error } : {};
}

/** Of other objects nothing is shown. */
function textOf(values: readonly unknown[]): string {
  return values
    .filter((value) => typeof value !== "object" || value === null)
    .map(String)
    .join(" ");
}
