/** The guarantees of docs/reliability.md, checked at each call that could break one of them. */
import type { JobResult, RunRef } from "../../../../src/shared/job.ts";
import type { Process } from "./simulation.ts";

interface Run extends RunRef {
  readonly process: Process;
  /** The last confirmation of its lease is valid until then. */
  confirmedUntilMs: number;
}

interface JobHistory {
  readonly results: JobResult[];
  isCancelled: boolean;
  /** The digest that the version's tag names; it contains the attempt. */
  taggedAs: string | undefined;
  /** The highest attempt that was claimed. */
  claimed: number;
  /** That attempt is being retracted. */
  retracting: boolean;
  /** The highest attempt that was released. */
  released: number;
  /** The highest attempt that was released or fenced. */
  over: number;
  /** An attempt was fenced. */
  wasLost: boolean;
}

export interface Surroundings {
  nowMs(): number;
  /** The number of messages of the job that the broker has, waiting or delivered. */
  messagesOf(jobId: string): number;
  report(problem: string): void;
}

export class Invariants {
  readonly #jobs = new Map<string, JobHistory>();
  readonly #running = new Set<Run>();
  /** Every run that any worker has begun. */
  readonly #begun = new Set<string>();

  constructor(private readonly surroundings: Surroundings) {}

  /** The broker has the message. */
  accepted(jobId: string): void {
    if (this.#jobs.has(jobId)) return;
    const attempts = { claimed: 0, retracting: false, released: 0, over: 0, wasLost: false };
    this.#jobs.set(jobId, { results: [], isCancelled: false, taggedAs: undefined, ...attempts });
  }

  resultOf(jobId: string): JobResult | undefined {
    return this.#jobs.get(jobId)?.results[0];
  }

  isTagged(jobId: string): boolean {
    return this.#jobs.get(jobId)?.taggedAs !== undefined;
  }

  isCancelled(jobId: string): boolean {
    return this.#jobs.get(jobId)?.isCancelled === true;
  }

  /** It was decided that a run of the job is lost. */
  wasLost(jobId: string): boolean {
    return this.#jobs.get(jobId)?.wasLost === true;
  }

  /** The broker has the result. */
  published(result: JobResult): void {
    const { job_id: jobId, status, image_digest: digest } = result;
    const { results, taggedAs } = this.#of(jobId);
    const [first] = results;
    if (first && JSON.stringify(first) !== JSON.stringify(result))
      this.#report(jobId, `has two results: ${summary(first)} and ${summary(result)}`);
    if (status === "SUCCESS" && taggedAs !== digest)
      this.#report(jobId, `succeeded with ${digest}, but its tag is ${taggedAs}`);
    results.push(result);
  }

  /** A message of the job was removed from the broker. */
  acked(jobId: string): void {
    if (this.#of(jobId).results.length === 0 && this.surroundings.messagesOf(jobId) === 0)
      this.#report(jobId, "has neither a result nor a message: it is lost");
  }

  cancelled(jobId: string): void {
    this.#of(jobId).isCancelled = true;
  }

  claimed({ jobId, attempt }: RunRef): void {
    const job = this.#of(jobId);
    if (job.isCancelled) this.#report(jobId, `is claimed for attempt ${attempt} although it was cancelled`);
    const isRetracted = attempt === job.claimed && job.retracting;
    if (attempt <= job.claimed && !isRetracted)
      this.#report(jobId, `is claimed for attempt ${attempt} after ${job.claimed}`);
    job.claimed = attempt;
    job.retracting = false;
  }

  /**
   * If no run of the attempt began, the next claim has the same number. That claim may precede the answer, which says
   * whether the attempt was retracted.
   */
  retracting({ jobId, attempt }: RunRef): (isRetracted: boolean) => void {
    const job = this.#of(jobId);
    if (job.claimed !== attempt) return () => undefined;
    job.retracting = true;
    return (isRetracted) => {
      const isClaimedAgain = !job.retracting;
      job.retracting = false;
      if (isClaimedAgain && job.claimed === attempt && !isRetracted)
        this.#report(jobId, `is claimed again for attempt ${attempt}, which was not retracted`);
      if (!isClaimedAgain && isRetracted) job.claimed = attempt - 1;
    };
  }

  /** An orchestrator attaches to the run. A fenced run has its claim until its last confirmation has ended. */
  attached({ jobId, attempt }: RunRef): void {
    const { released } = this.#of(jobId);
    if (attempt <= released) this.#report(jobId, `has the claim of attempt ${attempt}, which was released`);
  }

  /** The run was reported by its worker, and is not stale. */
  kept({ jobId, attempt }: RunRef): void {
    const { claimed, over } = this.#of(jobId);
    if (attempt <= over) this.#report(jobId, `keeps the claim of attempt ${attempt}, which is over`);
    if (attempt < claimed)
      this.#report(jobId, `keeps the claim of attempt ${attempt} though it has ${claimed}`);
  }

  confirmed(run: RunRef, forMs: number): void {
    const { isCancelled } = this.#of(run.jobId);
    if (isCancelled) this.#report(run.jobId, "is confirmed although it was cancelled");
    this.kept(run);
    const current = this.#unfinished(run.jobId).find(({ attempt }) => attempt === run.attempt);
    // No process that was killed meanwhile gets the answer.
    if (current?.process.isAlive) current.confirmedUntilMs = this.surroundings.nowMs() + forMs;
  }

  released({ jobId, attempt }: RunRef): void {
    const job = this.#of(jobId);
    job.released = Math.max(job.released, attempt);
    job.over = Math.max(job.over, attempt);
  }

  /** It was decided that the run is lost. */
  fenced({ jobId, attempt }: RunRef, confirmedForMs: number): void {
    const job = this.#of(jobId);
    job.wasLost = true;
    job.over = Math.max(job.over, attempt);
    for (const run of this.#unfinished(jobId)) {
      const leftMs = this.#confirmedForMs(run);
      if (run.attempt === attempt && leftMs > confirmedForMs)
        this.#report(jobId, `is fenced after ${confirmedForMs} ms, but is confirmed for ${leftMs} ms`);
    }
  }

  begins({ jobId, attempt }: RunRef, process: Process, slots: number): Run {
    const run = { jobId, attempt, process, confirmedUntilMs: 0 };
    const name = `${jobId} ${attempt}`;
    if (this.#begun.has(name)) this.#report(jobId, `begins attempt ${attempt} again, on ${process.name}`);
    this.#begun.add(name);
    const others = [...this.#running].filter((other) => other.process === process);
    if (others.length >= slots) this.#report(jobId, `begins on ${process.name} while all slots are in use`);
    for (const other of this.#unfinished(jobId).filter((each) => each.attempt < attempt)) {
      const leftMs = this.#confirmedForMs(other);
      if (leftMs > 0)
        this.#report(jobId, `begins attempt ${attempt} while ${other.attempt} is confirmed for ${leftMs} ms`);
    }
    this.#running.add(run);
    return run;
  }

  ends(run: Run): void {
    this.#running.delete(run);
  }

  tagged(jobId: string, attempt: number, digest: string): void {
    const job = this.#of(jobId);
    const run = this.#unfinished(jobId).find((each) => each.attempt === attempt);
    if (!run || this.#confirmedForMs(run) <= 0)
      this.#report(jobId, `is tagged by attempt ${attempt} without a confirmed lease`);
    if (job.taggedAs !== undefined && job.taggedAs !== digest)
      this.#report(jobId, `is tagged as ${digest} after ${job.taggedAs}`);
    const [result] = job.results;
    if (result && result.image_digest !== digest)
      this.#report(jobId, `is tagged as ${digest} after its result ${summary(result)}`);
    job.taggedAs = digest;
  }

  #confirmedForMs({ confirmedUntilMs }: Run): number {
    return Math.max(0, confirmedUntilMs - this.surroundings.nowMs());
  }

  /** Also those of killed workers, whose last request may still be under way. */
  #unfinished(jobId: string): readonly Run[] {
    return [...this.#running].filter((run) => run.jobId === jobId);
  }

  #of(jobId: string): JobHistory {
    const job = this.#jobs.get(jobId);
    if (!job) throw new Error(`job ${jobId} was never submitted`);
    return job;
  }

  #report(jobId: string, problem: string): void {
    this.surroundings.report(`job ${jobId} ${problem}`);
  }
}

function summary({ status, attempt, error, image_digest: digest }: JobResult): string {
  return `${status} of attempt ${attempt} (${error?.message ?? digest})`;
}
