/**
 * A builder without an emulator builds for another platform as long as no step has to run on it, which only the build
 * shows. So workers that run programs of a job's platforms are preferred, and others get the job while there are none.
 */
import type { Job } from "../../shared/job.ts";
import { covers, neededBy, neededWithoutPlatforms } from "../leases/capabilities.ts";
import type { ClaimOutcome, ClaimRequest, Leases, WorkerView } from "../leases/leases.ts";

type BuiltJob = Pick<Job, "platforms" | "provenance" | "secrets">;

export interface Preferred {
  /** Of the workers that the job waits for. */
  readonly needs: readonly string[];
  /** They do not run programs of the job's platforms: they get the job once it has waited for others. */
  readonly missesPlatforms: boolean;
}

/** Which of its regions' workers a job waits for. As in `claim`, those without a lease do not count. */
export function preferredAmong(
  job: BuiltJob,
  workers: readonly Pick<WorkerView, "hasLease" | "capabilities">[],
): Preferred {
  const isCovered = (needs: readonly string[]) =>
    workers.some(({ hasLease, capabilities }) => hasLease && covers(capabilities, needs));
  const [needs, others] = [neededBy(job), neededWithoutPlatforms(job)];
  const missesPlatforms = !isCovered(needs) && isCovered(others);
  return { needs: missesPlatforms ? others : needs, missesPlatforms };
}

export interface PreferenceOptions {
  readonly leases: Pick<Leases, "claim">;
  /** How long a job waits while its regions have only workers that do not run programs of its platforms. */
  readonly waitMs: number;
}

export class PlatformPreference {
  readonly #options: PreferenceOptions;
  /** Deliveries of jobs that have waited long enough: the leases forget the wait once a claim finds only busy workers. */
  readonly #waited = new WeakSet<object>();

  constructor(options: PreferenceOptions) {
    this.#options = options;
  }

  /** `delivery` is the job's message, for as long as this orchestrator holds it. */
  async claim(job: BuiltJob, request: ClaimRequest, delivery: object): Promise<ClaimOutcome> {
    const { leases, waitMs } = this.#options;
    const outcome = await leases.claim(request);
    if (outcome.kind !== "incapable" || job.platforms.length === 0) return outcome;
    if (outcome.forMs >= waitMs) this.#waited.add(delivery);
    if (!this.#waited.has(delivery)) return outcome;
    const elsewhere = await leases.claim({ ...request, needs: neededWithoutPlatforms(job) });
    if (elsewhere.kind === "claimed")
      return { ...elsewhere, choice: { ...elsewhere.choice, missesPlatforms: true } };
    return elsewhere.kind === "incapable" ? outcome : elsewhere;
  }
}
