/** SIGTERM and SIGINT as abort signals. */

/** The process received a signal. */
export class StopRequested extends Error {
  override readonly name = "StopRequested";
  constructor(readonly signalName: string) {
    super(`received ${signalName}`);
  }
}

export interface StopSignals {
  /** Aborts at the first SIGTERM or SIGINT: finish running work, then stop. */
  readonly first: AbortSignal;
  /** Aborts at the second one: stop now. */
  readonly second: AbortSignal;
}

export function listenForStop(): StopSignals {
  const first = new AbortController();
  const second = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => (first.signal.aborted ? second : first).abort(new StopRequested(name)));
  }
  return { first: first.signal, second: second.signal };
}
