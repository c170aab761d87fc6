/** What a build tells while it goes on. raw-progress.ts and plain-progress.ts read it off what docker prints. */

/** One instruction of a Dockerfile. BuildKit's own doings, such as loading the context, are none. */
export interface BuildStep {
  /** As in the log's lines of this step: `#<number> …`. */
  readonly number: number;
  /** Such as `[build 2/5] RUN make`. */
  readonly name: string;
  readonly startedAt: Date;
  /** Undefined while it goes on. */
  readonly end?: BuildStepEnd;
}

export interface BuildStepEnd {
  readonly at: Date;
  readonly durationMs: number;
  /** Its result was there from an earlier build. */
  readonly isCached: boolean;
  /** Empty when it succeeded. */
  readonly error: string;
}

export interface ProgressListener {
  readonly log: (line: string) => void;
  /** Twice for each step: at its start and at its end. */
  readonly onStep: (step: BuildStep) => void;
  /** The build is done and the push begins; told more than once, at the latest when something is tried again. */
  readonly onPushing: () => void;
  /** The registry has the manifest. What BuildKit does then is not the image's any more. */
  readonly onPushed?: (digest: string) => void;
}

export interface BuildProgress {
  /** How docker is told to print it. */
  readonly argument: `--progress=${string}`;
  /** One line of what it prints. */
  line(line: string): void;
  /** When the last instruction was told to begin, by `performance.now()`; minus infinity before the first. */
  readonly lastStepAtMs: number;
  /** Docker has ended; what is not told yet is told now. */
  end(): void;
  /** Docker's own last words, as far as they can be told from what the build prints. */
  words(): readonly string[];
}
