/** Progress of a build. rawjson.ts and plain.ts read it from the output of docker or buildx. */
import type { OutputLine } from "../../job/output-line.ts";

/** One instruction of a Dockerfile. BuildKit's internal steps, such as loading the context, are not included. */
export interface BuildStep {
  /** The number in this step's log lines: `#<number> …`. */
  readonly number: number;
  /** Such as `[build 2/5] RUN make`. */
  readonly name: string;
  readonly startedAt: Date;
  /** Undefined while the step runs. */
  readonly end?: BuildStepEnd;
}

export interface BuildStepEnd {
  readonly at: Date;
  readonly durationMs: number;
  /** The result came from the build cache. */
  readonly isCached: boolean;
  /** Empty when it succeeded. */
  readonly error: string;
}

export interface ProgressListener {
  readonly output: (line: OutputLine) => void;
  /** Called twice for each step: at its start and at its end. */
  readonly onStep: (step: BuildStep) => void;
  /** An instruction of the Dockerfile begins. */
  readonly onInstruction?: () => void;
  /** The push begins. May be called more than once. */
  readonly onPushing: () => void;
  /** The registry has accepted the manifest; later work of BuildKit, such as exporting cache, is not part of the image. */
  readonly onPushed?: (digest: string) => void;
}

export interface BuildProgress {
  /** Command-line flag that selects the output format. */
  readonly argument: `--progress=${string}`;
  /** Reads one line of output. */
  line(line: string): void;
  /** Time (`performance.now()`) at which the last instruction started; minus infinity before the first. */
  readonly lastStepAtMs: number;
  /**
   * Docker has exited: reports what is still pending, and output that is missing. The exit code is undefined when the
   * build was aborted.
   */
  end(exitCode: number | undefined): void;
  /** BuildKit reported that the export of the image has failed. Never true for a format that does not report it. */
  readonly isExportFailed: boolean;
  /** The last lines that docker or buildx printed as its own messages, as far as the format separates them from build output. */
  stderrTail(): readonly string[];
}
