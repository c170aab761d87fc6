/**
 * A builder without an emulator builds for another platform as long as no step has to run on it, which only the build
 * shows. So workers that run programs of a job's platforms are preferred, and others get the job while there are none.
 */
import type { Job } from "../../shared/job.ts";
import { neededWithoutPlatforms } from "../leases/capabilities.ts";
import type { ClaimOutcome, ClaimRequest, Leases } from "../leases/leases.ts";

type PlacedJob = Pick<Job, "platforms" | "provenance" | "secrets">;

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
  async claim(job: PlacedJob, request: ClaimRequest, delivery: object): Promise<ClaimOutcome> {
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
