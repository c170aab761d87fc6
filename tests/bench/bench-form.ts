/** What every bench is, and how it is told that it was called wrongly. */
export interface Bench {
  /** As its usage line shows them. */
  readonly flags: string;
  /**
   * Measures, and gives what it found as lines to print. @throws WrongUsage before anything is started; the signal's
   * reason, once all that it has started is gone.
   */
  run(args: readonly string[], say: Say, interrupted: AbortSignal): Promise<readonly string[]>;
}

/** One line of progress. */
export type Say = (line: string) => void;

export class WrongUsage extends Error {
  override readonly name = "WrongUsage";
}
