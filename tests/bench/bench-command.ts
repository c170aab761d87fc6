/** The interface of every bench, and the error for a wrong command line. */
export interface Bench {
  /** As the usage line shows them. */
  readonly flags: string;
  /**
   * Measures, and returns the lines of the report. @throws UsageError before anything is started; the signal's reason,
   * once everything that it has started is removed.
   */
  run(args: readonly string[], log: Log, interrupted: AbortSignal): Promise<readonly string[]>;
}

/** One line of progress. */
export type Log = (line: string) => void;

export class UsageError extends Error {
  override readonly name = "UsageError";
}
