/** Signals: which ones stop the program, and which ones it ignores. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import type { Logger } from "./logging.ts";

/** The process received a signal. */
export class StopRequested extends Error {
  override readonly name = "StopRequested";
  constructor(readonly signalName: string) {
    super(`received ${signalName}`);
  }
}

export interface StopSignals {
  /** Aborts at the first signal: finish running work, then stop. */
  readonly first: AbortSignal;
  /** Aborts at the second SIGTERM or SIGINT, and at SIGQUIT: stop now. */
  readonly second: AbortSignal;
}

export interface StopOptions {
  /**
   * A program at a terminal stops when the terminal closes, unless it was started to outlive it, as with nohup. A
   * service has no terminal: its SIGHUP means "reload".
   */
  readonly atHangup?: boolean;
}

export function listenForStop({ atHangup = false }: StopOptions = {}): StopSignals {
  const first = new AbortController();
  const second = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => (first.signal.aborted ? second : first).abort(new StopRequested(name)));
  }
  process.on("SIGQUIT", () => {
    for (const stop of [first, second]) stop.abort(new StopRequested("SIGQUIT"));
  });
  // The kernel and the shell may both send it: it never means "stop now".
  if (atHangup && !isIgnored("SIGHUP")) process.on("SIGHUP", () => first.abort(new StopRequested("SIGHUP")));
  return { first: first.signal, second: second.signal };
}

/** Signals that ask other programs to reload, or to open their log again, would end this one, and its builds. */
export function ignoreSignals(names: readonly NodeJS.Signals[], logger: Logger): void {
  for (const name of names) {
    let isLogged = false;
    process.on(name, () => {
      if (isLogged) return;
      isLogged = true;
      logger.info(
        { signal: name },
        "signal ignored: settings and certificates are read at the start only; restart the program to apply them",
      );
    });
  }
}

/** Whether the process was started with the signal ignored. */
function isIgnored(name: NodeJS.Signals): boolean {
  const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return (BigInt(`0x${mask}`) & (1n << BigInt(constants.signals[name] - 1))) !== 0n;
}
