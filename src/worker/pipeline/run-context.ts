/**
 * What all phases of one run share. A phase passes its result on as a value; only what the end of the run reports and
 * cleans up is noted here.
 */
import type { Step } from "../../shared/job.ts";
import type { PipelineJob } from "../job/job.ts";
import { messageLine, type OutputLine } from "../job/output-line.ts";
import { DEFAULT_RETRY, type RetryPolicy } from "../job/retry.ts";
import { RedactedLog } from "../redaction/redacted-log.ts";
import { Redactor } from "../redaction/redactor.ts";
import { secretsOf } from "../registry/base-logins.ts";
import type { RegistryClient } from "../registry/client.ts";
import { CleanUp } from "./clean-up.ts";
import { inputLabels } from "./image-labels.ts";
import type { PipelineParts, RunReporter, RunStateName } from "./pipeline-parts.ts";
import { StepTimes } from "./step-times.ts";
import type { LeaseConfirmation, TagContext } from "./version-tag.ts";
import { WantedImage } from "./wanted-image.ts";

export interface RunRequest {
  readonly job: PipelineJob;
  readonly parts: PipelineParts;
  readonly reporter: RunReporter;
  readonly confirmLease: LeaseConfirmation;
  /** Aborts the run, with a RunAborted as its reason. */
  readonly signal: AbortSignal;
}

export class RunContext {
  readonly job: PipelineJob;
  readonly parts: PipelineParts;
  readonly reporter: RunReporter;
  readonly confirmLease: LeaseConfirmation;
  readonly signal: AbortSignal;
  readonly retry: RetryPolicy;
  readonly redactor = new Redactor();
  readonly cleanUp = new CleanUp();
  readonly times = new StepTimes();
  readonly #redactedLog: RedactedLog;
  #step: Step = "clone";
  #commit: string | undefined;
  #hasBegunBuilding = false;

  constructor({ job, parts, reporter, confirmLease, signal }: RunRequest) {
    this.job = job;
    this.parts = parts;
    this.reporter = reporter;
    this.confirmLease = confirmLease;
    this.signal = signal;
    this.retry = parts.retry ?? DEFAULT_RETRY;
    this.#redactedLog = new RedactedLog(this.redactor, (line) => reporter.log(line));
  }

  /** The step that a failure is attributed to, unless the failure names its own. */
  get step(): Step {
    return this.#step;
  }

  /** The commit of the run's end, also when a later phase fails. */
  get commit(): string | undefined {
    return this.#commit;
  }

  resolved(commit: string): void {
    this.#commit = commit;
  }

  /** An instruction of the Dockerfile has begun: what the builder does from now on may be the job's doing. */
  get hasBegunBuilding(): boolean {
    return this.#hasBegunBuilding;
  }

  beganBuilding(): void {
    this.#hasBegunBuilding = true;
  }

  enter(step: Step, state?: RunStateName): void {
    this.#step = step;
    if (state !== undefined) this.reporter.state(state);
  }

  /** To be called before the run's first line. */
  maskSecrets(): Promise<void> {
    const { gitToken, secrets, registryAuths } = this.job;
    const ofLogins = Object.values(registryAuths).flatMap(secretsOf);
    return this.redactor.addAll([
      ...(gitToken === undefined ? [] : [gitToken]),
      ...Object.values(secrets),
      ...ofLogins,
    ]);
  }

  readonly log = (message: string): void => this.output(messageLine(message));

  readonly output = (line: OutputLine): void => this.#redactedLog.add(line);

  endOutput(): void {
    this.#redactedLog.end();
  }

  wantedImage(repositoryUrl: string, commit: string): WantedImage {
    const inputs = inputLabels({ ...this.job, repositoryUrl, commit });
    return new WantedImage(this.job, inputs, this.parts.reuseKeys ?? []);
  }

  /** For requests to the job's repository in the registry. */
  inRepository(registry: RegistryClient): TagContext {
    return { job: this.job, registry, retry: this.retry, log: this.log, signal: this.signal };
  }
}
